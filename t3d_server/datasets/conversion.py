"""Converts at the edge: what clients send becomes the HDF5 file of a dataset, arrays leave as what they ask for."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.datasets import checker, formats, hdf5
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, T3dError, UnsupportedMediaTypeError


def convert(
    source: Path,
    content_type: str,
    destination: Path,
    *,
    key: str = "image",
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    spacing_unit: str | None = None,
    max_bytes: int,
) -> None:
    """Turn an uploaded file into the HDF5 file of a dataset.

    Args:
        source: the file, which nobody vouches for.
        content_type: what it is; "application/octet-stream" is HDF5.
        destination: the file to write; on the same file system a HDF5 file is linked there. Its folder also takes
            temporary files, which are gone when this returns.
        key: under which an image or npy array is stored.
        axes: axes of `image`; else those the file states, else those its shape suggests.
        spacing: distances of samples of the spatial axes, in axis order; else those the file states.
        spacing_unit: unit of the spacing.
        max_bytes: largest size of the dataset once unpacked.

    Raises:
        UnsupportedMediaTypeError: an unknown content type.
        InvalidDatasetError: a damaged file, or no dataset by the conventions.
        PayloadTooLargeError: larger than `max_bytes`; raised before it is unpacked.
    """
    source_format = formats.by_content_type(content_type)
    stated = {"axes": axes, "spacing": spacing, "spacing_unit": spacing_unit}
    stated = {name: value for name, value in stated.items() if value is not None}
    try:
        if source_format.read is None:
            _take_hdf5(source, destination, stated, max_bytes)
        else:
            with tempfile.TemporaryDirectory(dir=destination.parent) as folder:
                scratch = Path(folder)
                with _translated(source_format.media_type):
                    if source.stat().st_size == 0:
                        raise InvalidDatasetError("the file is empty")
                    values = source_format.read(source, scratch, max_bytes)
                if not source_format.holds_dataset and key != "image":  # whose axes these are
                    values = {key if name == "image" else name: values[name] for name in values if name != "axes"}
                for index, (name, value) in enumerate(values.items()):
                    values[name] = _as_stored(value, scratch / f"native-{index}")
                if axes is not None and "image" not in values:
                    raise InvalidDatasetError(f"axes {axes!r} say how `image` lies; there is {', '.join(values)}")
                if spacing is not None:
                    values.pop("spacing_unit", None)  # that of the spacing in the file
                hdf5.write(destination, values | stated)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _take_hdf5(source: Path, destination: Path, stated: dict[str, Any], max_bytes: int) -> None:
    checker.check(source, max_bytes=max_bytes, axes=stated.get("axes"), spacing=stated.get("spacing"))
    if stated:
        shutil.copyfile(source, destination)
        hdf5.annotate(destination, **stated)
        return
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


@contextmanager
def _translated(media_type: str) -> Iterator[None]:
    try:
        yield
    except (T3dError, MemoryError):
        raise
    except Exception as error:
        # The operating system, not the file; but for seeking to a negative place, which a file may state.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InvalidDatasetError(f"not a readable {media_type} file, or a damaged one: {error}") from error


def _as_stored(value: Any, scratch: Path) -> Any:
    """An array in native byte order and C order; one that has another is copied to a file, as memory may be scarce."""
    if not isinstance(value, np.ndarray) or (value.dtype.isnative and value.flags.c_contiguous):
        return value
    copy: Array = np.lib.format.open_memmap(scratch, "w+", value.dtype.newbyteorder("="), value.shape)
    copy[...] = value
    return copy


def encode_array(
    array: Array,
    media_type: str,
    file: BinaryIO,
    *,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    spacing_unit: str | None = None,
) -> None:
    """Write one array in a format for other programs.

    Args:
        array: any array for npy; an image, mask or other 2-D to 4-D array for TIFF; uint8 or uint16 (Y, X) or uint8
            colour for PNG.
        media_type: one of `formats.WRITABLE`.
        file: a seekable binary file.
        axes: axes of the array, by its shape where None.
        spacing: for each spatial axis, in axis order; TIFF keeps it.
        spacing_unit: unit of `spacing`.

    Raises:
        UnsupportedMediaTypeError: an unknown format, or one that cannot hold this array; it says which can.
    """
    target = next((row for row in formats.FORMATS if row.media_type == media_type), None)
    if target is None or target.write is None:
        written = ", ".join(formats.WRITABLE)
        raise UnsupportedMediaTypeError(f"arrays are not written as {media_type!r}; {written} are")
    if target.header is None:
        if not array.size:
            raise UnsupportedMediaTypeError(
                f"an array of shape {array.shape} is empty, no {media_type}; {formats.NPY} takes any"
            )
        try:
            axes = resolve_axes(array.shape, axes)
        except InvalidDatasetError as error:
            raise UnsupportedMediaTypeError(
                f"not as {media_type}: {error.message}; {formats.NPY} takes any array"
            ) from error
    target.write(array, file, axes or "", spacing, spacing_unit)
