"""What the keys `image`, `mask`, `axes` and `spacing` of a dataset have to hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes, spatial_shape
from t3d_server.algorithm_utils.io_schemas import IMAGE_DTYPES
from t3d_server.errors import InvalidDatasetError, Problem

DEFAULT_SPACING_UNIT = "um"
MAX_KEYS = 4096
MAX_KEY_BYTES = 255
MAX_TEXT_BYTES = 1024**2
MAX_TEXT_ITEMS = 65_536


class ArrayLike(Protocol):
    """Anything with a shape and a numpy dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the elements."""


def layout_of(
    key: str, ndim: int, axes: str | None, spacing: Sequence[float] | None
) -> tuple[str | None, tuple[float, ...] | None]:
    """Axes and spacing of one array of a dataset, as far as the dataset tells them.

    Args:
        key: key of the array.
        ndim: its number of axes.
        axes: axes of the dataset's `image`, None without one.
        spacing: the dataset's spacing.

    Returns:
        For `image` and `mask`, and what has as many axes as the image has spatial ones; None where it is not known.
    """
    spatial = axes.replace("C", "") if axes else "ZYX"[-ndim:] if key == "mask" else ""
    own = axes if key == "image" and axes else spatial
    if not own or len(own) != ndim:
        return None, None
    if spacing is None or len(spacing) != len(own.replace("C", "")):
        return own, None
    return own, tuple(map(float, spacing))


def check_spacing(spacing: object, axes: str | None = None) -> tuple[float, ...]:
    """Spacing as plain floats.

    Args:
        spacing: distances of neighbouring samples, one for each spatial axis of `axes`, in axis order.
        axes: axes of the image; None, where there is no image, leaves the count open.

    Raises:
        InvalidDatasetError: not numbers, not positive and finite, or not one for each spatial axis.
    """
    try:
        values = np.asarray(spacing, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidDatasetError(f"spacing is a list of numbers, not {spacing!r}") from None
    if values.ndim != 1:
        raise InvalidDatasetError(
            f"spacing is a list of numbers, one for each spatial axis; it has shape {values.shape}"
        )
    floats = tuple(values.tolist())
    if not floats or not all(math.isfinite(value) and value > 0 for value in floats):
        raise InvalidDatasetError(f"spacing has to be a few positive and finite numbers, not {floats}")
    if axes is not None:
        spatial = axes.replace("C", "")
        if len(floats) != len(spatial):
            raise InvalidDatasetError(
                f"spacing {floats} does not fit axes {axes!r}: give {len(spatial)} numbers, for {', '.join(spatial)}"
            )
    return floats


def check(
    arrays: Mapping[str, ArrayLike], values: Mapping[str, object], problems: list[Problem], *, axes: str | None = None
) -> tuple[str | None, tuple[float, ...] | None]:
    """Hold a dataset against the conventions of its well-known keys.

    Args:
        arrays: every array by key.
        values: every other value by key, and the value of `spacing`, whatever it is.
        problems: takes what is wrong, under the key it concerns.
        axes: axes that are stored with the image; they go before a key `axes`.

    Returns:
        Axes and spacing as they are to be understood, each None where absent or wrong.
    """
    resolved = spacing = None
    for key in ("image", "mask"):
        if key in values:
            problems.append(Problem(key, f"has to be an array, not {values[key]!r:.80}"))
    for key in ("axes", "spacing_unit"):
        if key in arrays or not isinstance(values.get(key, ""), str):
            problems.append(Problem(key, "has to be text"))
    for key in ("image", "mask", "volume"):
        if key in arrays and 0 in arrays[key].shape:
            problems.append(Problem(key, f"is empty: shape {arrays[key].shape} has an axis of length 0"))
    image, mask = arrays.get("image"), arrays.get("mask")
    if image is not None:
        if image.dtype.name not in IMAGE_DTYPES:
            problems.append(Problem("image", _wrong_dtype(image.dtype.name)))
        said = axes if axes is not None else values.get("axes")
        try:
            resolved = resolve_axes(image.shape, said if isinstance(said, str) else None)
        except InvalidDatasetError as error:
            problems.append(Problem("image", error.message))
    if mask is not None and mask.dtype.kind not in "biu":
        problems.append(Problem("mask", f"dtype {mask.dtype.name} holds no labels; send integers or bool"))
    if mask is not None and image is not None and resolved is not None:
        expected = spatial_shape(image.shape, resolved)
        if mask.shape != expected:
            problems.append(Problem("mask", f"shape {mask.shape} is not the image's spatial shape {expected}"))
    if "spacing" in values:
        try:
            spacing = check_spacing(values["spacing"], resolved)
        except InvalidDatasetError as error:
            problems.append(Problem("spacing", error.message))
    return resolved, spacing


def _wrong_dtype(dtype: str) -> str:
    near = {"bool": "uint8", "int8": "int16", "uint32": "int32", "int64": "int32", "uint64": "int32"}
    hint = f"`image.astype(np.{near.get(dtype, 'float32')})`"
    return f"dtype {dtype} is none of {', '.join(IMAGE_DTYPES)}; convert it, as by {hint} where its values fit"


def check_key(key: object) -> str | None:
    """What is wrong with a key, None where it can be one."""
    if not isinstance(key, str):
        return f"a key is text, not {type(key).__name__}"
    if not key:
        return "a key must not be empty"
    if "/" in key or "\0" in key or key == ".":
        return "a key holds no '/' and no NUL and is not '.': datasets are flat, name it otherwise"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "a key has to be valid Unicode text"
    return f"a key has at most {MAX_KEY_BYTES} bytes, not {size}" if size > MAX_KEY_BYTES else None
