"""The PNG format: grey or colour images of 8 bits, and grey ones of 16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from t3d_server.datasets.formats import pillow, tiff
from t3d_server.datasets.formats.base import Format
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, UnsupportedMediaTypeError

_DEPTH_AT = 24
_COLOUR = (2, 4, 6)


def _read(source: Path, _scratch: Path, max_bytes: int) -> dict[str, Any]:
    return pillow.read(source, PngImagePlugin.PngImageFile, max_bytes, _check)


def _check(source: Path, image: Image.Image) -> None:
    with source.open("rb") as file:
        depth, colour = file.read(_DEPTH_AT + 2)[_DEPTH_AT:]
    if depth == 16 and colour in _COLOUR:
        raise InvalidDatasetError("a colour PNG of 16 bits would be read as 8 bits; send it as image/tiff or npy")
    if getattr(image, "n_frames", 1) > 1:
        raise InvalidDatasetError("an animated PNG is no dataset; send its frames as one TIFF stack")


def _write(array: Array, file: BinaryIO, axes: str, _spacing: Sequence[float] | None, _unit: str | None) -> None:
    """Write uint8 or uint16 (Y, X), or uint8 (Y, X, 3 or 4) or (3 or 4, Y, X).

    Raises:
        UnsupportedMediaTypeError: any other array, or one of more than 1 GiB; it says which format takes it.
    """
    if array.nbytes > pillow.MAX_BYTES:
        raise UnsupportedMediaTypeError(
            f"an array of {array.nbytes} bytes is too large for a PNG; take image/tiff or application/x-npy"
        )
    if axes == "CYX":
        array, axes = np.moveaxis(array, 0, -1), "YXC"
    allowed = {"YX": ("uint8", "uint16"), "YXC": ("uint8",)}.get(axes, ())
    if array.dtype.name not in allowed:
        raise UnsupportedMediaTypeError(
            f"a PNG holds uint8 or uint16 (Y, X) or uint8 (Y, X, 3 or 4), not {array.dtype} of axes {axes}; "
            "take image/tiff or application/x-npy"
        )
    Image.fromarray(array).save(file, "PNG")


FORMAT = Format("image/png", (".png",), states_axes=lambda _path: True, read=_read, write=_write, fallback=tiff.FORMAT)
