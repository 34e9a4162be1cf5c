"""The axes that an image has: those that are stated, else those that its shape suggests."""

from __future__ import annotations

from collections.abc import Sequence

from t3d_server.errors import InvalidDatasetError

AXES = ("YX", "YXC", "CYX", "ZYX", "ZYXC")


def resolve_axes(shape: Sequence[int], axes: str | None = None) -> str:
    """Axes of an image.

    Args:
        shape: shape of the image.
        axes: what its sender said, upper or lower case; None goes by the shape alone: a trailing 3 or 4 of three
            axes is YXC, else a leading 3 is CYX, else three axes are ZYX.

    Returns:
        One of "YX", "YXC", "CYX", "ZYX", "ZYXC".

    Raises:
        InvalidDatasetError: no such axes, they do not fit the shape, or the shape is not that of an image.
    """
    shape = tuple(shape)
    if axes is not None:
        return _fitting(axes.upper(), shape)
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3:
        return "YXC" if shape[2] in (3, 4) else "CYX" if shape[0] == 3 else "ZYX"
    if len(shape) == 4 and shape[3] in (3, 4):
        return "ZYXC"
    raise InvalidDatasetError(
        f"shape {shape} is not that of an image: (Y, X), (Y, X, 3 or 4), (Z, Y, X), (Z, Y, X, 3 or 4)"
    )


def spatial_shape(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """Lengths of the axes of `axes` other than C, in axis order."""
    return tuple(length for length, axis in zip(shape, axes, strict=True) if axis != "C")


def _fitting(axes: str, shape: tuple[int, ...]) -> str:
    if axes not in AXES:
        raise InvalidDatasetError(f"axes {axes!r:.80} are not supported; allowed are {', '.join(AXES)}")
    if len(axes) != len(shape):
        raise InvalidDatasetError(f"axes {axes!r} do not fit shape {shape}: {len(axes)} axes, {len(shape)} dimensions")
    channels = shape[axes.index("C")] if "C" in axes else 3
    if channels not in (3, 4):
        raise InvalidDatasetError(f"axes {axes!r} do not fit shape {shape}: colour has 3 or 4 channels, not {channels}")
    return axes
