"""The TIFF format with its axes and spacing: OME and ImageJ metadata are read, OME metadata is written."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from t3d_server.datasets import inflate
from t3d_server.datasets.formats import npy
from t3d_server.datasets.formats.base import Format
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError, UnsupportedMediaTypeError

_NAMES = {"T": "time", "C": "channel", "R": "tile", "S": "sample", "H": "lifetime", "A": "angle", "P": "position"}
# tifffile calls pages of which nothing is known I (images) or Q (unknown): a multi-page file is a stack.
_AXES = {"YX": "YX", "YXS": "YXC", "SYX": "CYX", "CYX": "CYX", "ZYX": "ZYX", "IYX": "ZYX", "QYX": "ZYX"}
_AXES |= {"ZYXS": "ZYXC", "IYXS": "ZYXC", "QYXS": "ZYXC"}
_OME_AXES = {"YXC": "YXS", "ZYXC": "ZYXS"}
_OME_UNITS = {"um": "µm"}
_MICRON = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "\\u00b5m"}
_CENTIMETRE = 3
_MAX_PAGES = 65_536
_MAX_SEGMENT_BYTES = 1024**3
_PLAIN = 1
_DEFLATE = (8, 32946, 50013)
_UNBOUNDED = (34925, 34926, 50000)  # LZMA and Zstandard, which tifffile unpacks whatever comes out
_CLASSIC_BYTES = 2**32 - 2**25


def _read(source: Path, scratch: Path, max_bytes: int) -> dict[str, Any]:
    """Read a TIFF as one array, its pages as a stack; also pages that were written as images of their own.

    Pixels stay as they are: neither colour maps nor inverted greys are applied; 1-bit images become uint8 0/1.

    Args:
        source: the file.
        scratch: a folder where pixels that cannot be mapped are unpacked to; the array lives in it.
        max_bytes: largest size of the array.

    Returns:
        `image`, its `axes`, `spacing` of its spatial axes (None where the file does not state all of it) and
        `spacing_unit`.

    Raises:
        InvalidDatasetError: several images that are no slices of one stack, or axes that no dataset has.
        PayloadTooLargeError: it unpacks to more than `max_bytes`, or a packed segment of it to more than 1 GiB, or it
            has too many pages; raised before it is unpacked.
    """
    # OME metadata may name other files, which tifffile would open, wherever they are.
    with tifffile.TiffFile(source, _multifile=False) as file:
        _check_count(file)
        images = file.series
        _check_slices(images)
        image = images[0]
        size = len(images) * image.nbytes
        if size > max_bytes:
            raise PayloadTooLargeError(f"the TIFF unpacks to {size} bytes, more than the limit of {max_bytes}")
        kept = [
            (axis, length) for axis, length in zip(image.axes, image.shape, strict=True) if length > 1 or axis in "YX"
        ]
        if len(images) > 1:
            kept.insert(0, ("Z", len(images)))
        axes = _dataset_axes(dict(kept), image)
        _check_chain(file)
        for one in images:
            _check_segments(file, one, max_bytes)
        pixels = scratch / "pixels"
        array = _pixels(source, image, pixels) if len(images) == 1 else _stacked(images, pixels)
        array = array.reshape([length for _, length in kept])
        spacing, unit = _spacing(file, axes)
        array = array.view(np.uint8) if array.dtype == np.bool_ else array
        return {"image": array, "spacing": spacing, "spacing_unit": unit, "axes": axes}


def _states_axes(source: Path) -> bool:
    """Whether a TIFF states what its first axis is.

    Samples that lie one after the other do not: so tifffile writes a stack of 3 or 4 slices by default.
    """
    with tifffile.TiffFile(source, _multifile=False) as file:
        return file.is_ome or file.is_imagej or not file.series[0].axes.startswith("S")


def _check_count(file: Any) -> None:
    """Refuse a file whose many pages would take minutes to be looked at."""
    with suppress(IndexError):
        file.pages[_MAX_PAGES]
        raise PayloadTooLargeError(f"the TIFF has more than {_MAX_PAGES} pages; write the stack as npy or HDF5")


def _check_slices(images: Sequence[Any]) -> None:
    """Refuse images that are not one, nor the slices of one stack."""
    kinds = {(one.kind, one.axes, one.shape, one.dtype) for one in images}
    # Several images of OME or ImageJ are positions or times; tifffile's own are pages that were written one by one.
    if len(images) == 1 or (len(kinds) == 1 and images[0].kind == "shaped" and images[0].axes in ("YX", "YXS")):
        return
    shapes = ", ".join(f"{one.axes} {one.shape} {one.dtype}" for one in images[:8])
    raise InvalidDatasetError(
        f"a TIFF has to hold one image or stack, this one holds {len(images)}: {shapes}; split it into files of one "
        "image or stack each, or write slices of one shape and dtype as one array: "
        "`tifffile.imwrite(path, stack, metadata={'axes': 'ZYX'})`"
    )


def _dataset_axes(lengths: dict[str, int], image: Any) -> str:
    axes = _AXES.get("".join(lengths))
    if axes is not None and ("C" not in axes or lengths.get("C", lengths.get("S")) in (3, 4)):
        return axes
    odd = ", ".join(f"{axis} ({_NAMES.get(axis, 'unknown')})" for axis in lengths if axis not in "ZYX")
    raise InvalidDatasetError(
        f"TIFF axes {image.axes} of shape {image.shape} are no dataset: split {odd or image.axes} into files of their "
        "own; YX, ZYX and colour of 3 or 4 channels (YXC, CYX, ZYXC) are read"
    )


def _check_chain(file: Any) -> None:
    """Refuse a file whose later pages are lost: tifffile only logs that, and reads a shorter stack."""
    layout, raw = file.tiff, file.filehandle
    raw.seek(file.pages[-1].offset)
    (tags,) = struct.unpack(layout.tagnoformat, raw.read(layout.tagnosize))
    raw.seek(tags * layout.tagsize, os.SEEK_CUR)
    (following,) = struct.unpack(layout.offsetformat, raw.read(layout.offsetsize))
    if following:
        raise InvalidDatasetError(f"the TIFF is cut off or damaged after page {len(file.pages)}: there is no next page")


def _check_segments(file: Any, image: Any, max_bytes: int) -> None:
    """Refuse what tifffile does not: pixels beyond the end, and segments that unpack to more than they state."""
    raw = file.filehandle
    for page in image.pages:
        if page is None:
            continue
        layout = page.keyframe
        limit = math.prod(layout.chunks) * layout.dtype.itemsize
        if limit > max_bytes or (layout.compression != _PLAIN and limit > _MAX_SEGMENT_BYTES):
            raise PayloadTooLargeError(
                f"a segment of the TIFF unpacks to {limit} bytes, the limit is {min(max_bytes, _MAX_SEGMENT_BYTES)}; "
                "write smaller tiles or strips"
            )
        if layout.compression in _UNBOUNDED:
            name = layout.compression.name
            raise InvalidDatasetError(f"a TIFF that is packed by {name} is not read; write it by deflate, or unpacked")
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            if offset + size > raw.size:
                raise InvalidDatasetError(f"the TIFF is cut off: page {page.index} reaches past {raw.size} bytes")
            raw.seek(offset)
            if layout.compression in _DEFLATE and not inflate.is_bounded(raw, size, limit):
                raise InvalidDatasetError(f"page {page.index} of the TIFF unpacks to more than it states")


def _pixels(source: Path, image: Any, scratch: Path) -> Array:
    dtype = np.dtype(image.keyframe.parent.byteorder + image.dtype.char)
    if image.dataoffset is not None and image.nbytes and image.dtype != np.bool_:
        return np.memmap(source, dtype, "r", image.dataoffset, image.shape)
    array: Array = image.asarray(out=str(scratch))
    return array


def _stacked(images: Sequence[Any], scratch: Path) -> Array:
    """Images of one shape and dtype, one in memory at a time."""
    stack: Array = np.lib.format.open_memmap(scratch, "w+", images[0].dtype, (len(images), *images[0].shape))
    for index, image in enumerate(images):
        stack[index] = image.asarray()
    return stack


def _spacing(file: Any, axes: str) -> tuple[tuple[float, ...] | None, str | None]:
    """Spacing in axis order and its unit, where the file tells it for every spatial axis."""
    found: dict[str, float] = {}
    unit = "um"
    page = file.pages.first
    if file.is_ome:
        pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*", file.ome_metadata)
        stated = dict(re.findall(r'PhysicalSize([XYZ](?:Unit)?)="([^"]*)"', pixels[0] if pixels else ""))
        found = {axis: float(stated[axis]) for axis in "XYZ" if axis in stated}
        units = {_unit(stated.get(f"{axis}Unit", unit)) for axis in axes if axis in found}
        if len(units) > 1:
            return None, None
        unit = units.pop() if units else unit
    elif file.is_imagej:
        metadata = file.imagej_metadata or {}
        if "unit" not in metadata:
            return None, None
        unit = _unit(str(metadata["unit"]))
        found = _per_sample(page, 1.0)
        if "spacing" in metadata:
            found["Z"] = float(metadata["spacing"])
    elif "ResolutionUnit" in page.tags and page.tags["ResolutionUnit"].value == _CENTIMETRE:
        # Inches are for printers: 72 per inch is what programs write that know of no spacing.
        found = _per_sample(page, 10_000.0)
    spacing = tuple(found.get(axis, 0.0) for axis in axes.replace("C", ""))
    if not all(np.isfinite(value) and value > 0 for value in spacing):
        return None, None
    return spacing, unit


def _per_sample(page: Any, scale: float) -> dict[str, float]:
    found = {}
    for axis in "XY":
        tag = page.tags.get(f"{axis}Resolution")
        if tag is not None and all(tag.value):
            found[axis] = scale * tag.value[1] / tag.value[0]
    return found


def _unit(text: str) -> str:
    return "um" if text.strip().lower() in _MICRON else text.strip()


def _write(array: Array, file: BinaryIO, axes: str, spacing: Sequence[float] | None, spacing_unit: str | None) -> None:
    """Write an OME-TIFF, uncompressed; a BigTIFF beyond 4 GB.

    Args:
        array: an image or mask of `axes`.
        file: a seekable binary file.
        axes: "YX", "YXC", "CYX", "ZYX" or "ZYXC".
        spacing: for each spatial axis, in axis order.
        spacing_unit: unit of `spacing`, "um" where None.

    Raises:
        UnsupportedMediaTypeError: OME-TIFF has no such dtype.
    """
    metadata: dict[str, Any] = {"axes": _OME_AXES.get(axes, axes)}
    unit = spacing_unit or "um"
    # Read from a dataset, the spacing is an array, which is neither true nor false.
    for axis, value in () if spacing is None else zip(axes.replace("C", ""), map(float, spacing), strict=True):
        metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": _OME_UNITS.get(unit, unit)}
    try:
        tifffile.imwrite(
            file,
            array,
            ome=True,
            bigtiff=array.nbytes > _CLASSIC_BYTES,
            photometric="rgb" if axes in _OME_AXES else "minisblack",
            metadata=metadata,
        )
    except (ValueError, KeyError, TypeError, tifffile.OmeXmlError) as error:
        raise UnsupportedMediaTypeError(
            f"an array of dtype {array.dtype} and axes {axes} cannot be a TIFF ({error}); application/x-npy takes any"
        ) from error


FORMAT = Format(
    "image/tiff",
    (".tif", ".tiff"),
    states_axes=_states_axes,
    read=_read,
    write=_write,
    keeps_layout=True,
    fallback=npy.FORMAT,
)
