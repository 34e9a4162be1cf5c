"""PNG and JPEG: pixels as they are stored, never rescaled."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError, UnsupportedMediaTypeError

# What each of Pillow's modes is read as: colour maps and inks are part of a picture, not of its samples.
_TARGETS = {"LA": "RGBA", "La": "RGBA", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_SAMPLES = {
    "1": ("uint8", 1),
    "L": ("uint8", 1),
    "RGB": ("uint8", 3),
    "RGBA": ("uint8", 4),
    "I;16": ("uint16", 1),
    "I;16B": ("uint16", 1),
    "I": ("uint16", 1),  # what some releases of Pillow make of 16-bit grey
}
# Pillow holds a picture in memory, up to three times.
_MAX_BYTES = 1024**3
_PNG_DEPTH_AT = 24
_PNG_COLOUR = (2, 4, 6)


def read(source: Path, *, png: bool, max_bytes: int) -> tuple[Array, str]:
    """Read a PNG or a JPEG.

    Palettes become RGB (RGBA where they are transparent), grey with alpha RGBA, CMYK RGB, 1-bit images uint8 0/1.
    Orientation tags are not applied.

    Args:
        source: the file.
        png: whether it is a PNG; else it is a JPEG.
        max_bytes: largest size of the array.

    Returns:
        uint8 or uint16 (Y, X), or uint8 (Y, X, 3 or 4), and its axes.

    Raises:
        InvalidDatasetError: 16 bits in colour, which would lose half of them, or an animation.
        PayloadTooLargeError: it unpacks to more than `max_bytes`, or 1 GiB; told before it is unpacked.
    """
    # Not Image.open: its limit of pixels is one global number, too low for a slide scanner and not ours to change.
    plugin = PngImagePlugin.PngImageFile if png else JpegImagePlugin.JpegImageFile
    with source.open("rb") as file, plugin(file) as image:
        mode = _TARGETS.get(image.mode, image.mode)
        if mode == "P":
            mode = "RGBA" if "transparency" in image.info else "RGB"
        if mode not in _SAMPLES:
            raise InvalidDatasetError(f"pixels of kind {mode} are not read; send grey, RGB or RGBA, or a TIFF")
        dtype, channels = _SAMPLES[mode]
        size = image.width * image.height * channels * np.dtype(dtype).itemsize
        limit = min(max_bytes, _MAX_BYTES)
        if size > limit:
            raise PayloadTooLargeError(
                f"{image.width} x {image.height} pixels unpack to {size} bytes, the limit of pictures is {limit}; "
                "TIFF, npy and HDF5 files may be larger"
            )
        if png:
            _check_png(source, image)
        array = np.asarray(image if mode == image.mode else image.convert(mode)).astype(dtype, copy=False)
    return array, "YX" if array.ndim == 2 else "YXC"


def _check_png(source: Path, image: Image.Image) -> None:
    with source.open("rb") as file:
        depth, colour = file.read(_PNG_DEPTH_AT + 2)[_PNG_DEPTH_AT:]
    if depth == 16 and colour in _PNG_COLOUR:
        raise InvalidDatasetError("a colour PNG of 16 bits would be read as 8 bits; send it as image/tiff or npy")
    if getattr(image, "n_frames", 1) > 1:
        raise InvalidDatasetError("an animated PNG is no dataset; send its frames as one TIFF stack")


def write_png(array: Array, file: BinaryIO, *, axes: str) -> None:
    """Write a PNG.

    Args:
        array: uint8 or uint16 (Y, X), or uint8 (Y, X, 3 or 4) or (3 or 4, Y, X).
        file: a binary file.
        axes: "YX", "YXC" or "CYX".

    Raises:
        UnsupportedMediaTypeError: any other array, or one of more than 1 GiB; it says which format takes it.
    """
    if array.nbytes > _MAX_BYTES:
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
