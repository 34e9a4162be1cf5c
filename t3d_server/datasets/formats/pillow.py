"""Reads pixels by Pillow, for PNG and JPEG: as they are stored, never rescaled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError

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
MAX_BYTES = 1024**3
"""Largest array that is read or written: Pillow holds it in memory, up to three times."""


def read(
    source: Path,
    plugin: type[ImageFile.ImageFile],
    max_bytes: int,
    check: Callable[[Path, Image.Image], None] | None = None,
) -> dict[str, Any]:
    """Read an image file.

    Palettes become RGB (RGBA where they are transparent), grey with alpha RGBA, CMYK RGB, 1-bit images uint8 0/1.
    Orientation tags are not applied.

    Args:
        source: the file.
        plugin: Pillow's class for the format. Not `Image.open`: its limit of pixels is one global number, too low for
            a slide scanner and not ours to change.
        max_bytes: largest size of the array.
        check: raises where the format holds what would not be read in full.

    Returns:
        `image`, uint8 or uint16 (Y, X) or uint8 (Y, X, 3 or 4), and its `axes`; no spacing.

    Raises:
        InvalidDatasetError: pixels of a kind that is not read.
        PayloadTooLargeError: it unpacks to more than `max_bytes`, or 1 GiB; raised before it is unpacked.
    """
    with source.open("rb") as file, plugin(file) as image:
        mode = _TARGETS.get(image.mode, image.mode)
        if mode == "P":
            mode = "RGBA" if "transparency" in image.info else "RGB"
        if mode not in _SAMPLES:
            raise InvalidDatasetError(f"pixels of kind {mode} are not read; send grey, RGB or RGBA, or a TIFF")
        dtype, channels = _SAMPLES[mode]
        size = image.width * image.height * channels * np.dtype(dtype).itemsize
        limit = min(max_bytes, MAX_BYTES)
        if size > limit:
            raise PayloadTooLargeError(
                f"{image.width} x {image.height} pixels unpack to {size} bytes, the limit of pictures is {limit}; "
                "TIFF, npy and HDF5 files may be larger"
            )
        if check is not None:
            check(source, image)
        array = np.asarray(image if mode == image.mode else image.convert(mode)).astype(dtype, copy=False)
    return {"image": array, "spacing": None, "spacing_unit": None, "axes": "YX" if array.ndim == 2 else "YXC"}
