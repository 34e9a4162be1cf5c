"""Formats at the edge: what clients send becomes the HDF5 file of a dataset, arrays leave as what they ask for."""

from __future__ import annotations

import errno
import io
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.datasets import checker, hdf5, pictures, tiff
from t3d_server.datasets.conventions import MAX_KEYS
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError, T3dError, UnsupportedMediaTypeError

HDF5 = "application/x-hdf5"
NPY = "application/x-npy"
NPZ = "application/x-npz"
TIFF = "image/tiff"
PNG = "image/png"
JPEG = "image/jpeg"
READABLE = (HDF5, NPY, NPZ, TIFF, PNG, JPEG)
WRITABLE = (NPY, TIFF, PNG)

_NPY_HEADER_BYTES = 16384
_ZIP_DIRECTORY_BYTES = 512 * MAX_KEYS

_ALIASES = {"application/octet-stream": HDF5, "image/jpg": JPEG}
_EXTENSIONS = {
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".npy": NPY,
    ".npz": NPZ,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
}


def guess_content_type(path: Path) -> str:
    """Content type of a file by its extension.

    Raises:
        UnsupportedMediaTypeError: an extension that is not known.
    """
    extension = path.suffix.lower()
    if extension not in _EXTENSIONS:
        what = f"the format {extension!r} is not read" if extension else "has no extension, which tells the format"
        raise UnsupportedMediaTypeError(f"{path.name}: {what}; {', '.join(_EXTENSIONS)} are read")
    return _EXTENSIONS[extension]


def states_axes(path: Path) -> bool:
    """Whether a dataset's file, which has to be one that its user vouches for, says itself how its image lies."""
    kind = guess_content_type(path)
    if kind == TIFF:
        return tiff.states_axes(path)
    if kind == HDF5:
        return hdf5.states_axes(path)
    if kind == NPZ:
        with zipfile.ZipFile(path) as archive:
            return "axes.npy" in archive.namelist()
    return kind != NPY


def readable(content_type: str) -> str:
    """The one of `READABLE` that a Content-Type header names; its parameters do not matter.

    Raises:
        UnsupportedMediaTypeError: it names none of them.
    """
    plain = content_type.partition(";")[0].strip().lower()
    plain = _ALIASES.get(plain, plain)
    if plain not in READABLE:
        raise UnsupportedMediaTypeError(f"content type {content_type!r} is not read; {', '.join(READABLE)} are")
    return plain


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
        PayloadTooLargeError: larger than `max_bytes`; told before it is unpacked.
    """
    kind = readable(content_type)
    said = {"axes": axes, "spacing": spacing, "spacing_unit": spacing_unit}
    said = {name: value for name, value in said.items() if value is not None}
    try:
        if kind == HDF5:
            _take_hdf5(source, destination, said, max_bytes)
        else:
            with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
                values = _values(source, kind, key, Path(scratch), max_bytes)
                for index, (name, value) in enumerate(values.items()):
                    values[name] = _as_stored(value, Path(scratch) / f"native-{index}")
                if axes is not None and "image" not in values:
                    raise InvalidDatasetError(f"axes {axes!r} say how `image` lies; there is {', '.join(values)}")
                if spacing is not None:
                    values.pop("spacing_unit", None)  # that of the spacing in the file
                hdf5.write(destination, values | said)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _take_hdf5(source: Path, destination: Path, said: dict[str, Any], max_bytes: int) -> None:
    checker.check(source, max_bytes=max_bytes, axes=said.get("axes"), spacing=said.get("spacing"))
    if said:
        shutil.copyfile(source, destination)
        hdf5.annotate(destination, **said)
        return
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def _values(source: Path, kind: str, key: str, scratch: Path, max_bytes: int) -> dict[str, Any]:
    """Values in the file; arrays that live on files under `scratch` where that saves memory."""
    with _translated(kind):
        if source.stat().st_size == 0:
            raise InvalidDatasetError("the file is empty")
        if kind == NPY:
            return {key: _map_npy(source, max_bytes)}
        if kind == NPZ:
            return _read_npz(source, scratch, max_bytes)
        spacing = unit = None
        if kind == TIFF:
            array, axes, spacing, unit = tiff.read(source, scratch / "pixels", max_bytes=max_bytes)
        else:
            array, axes = pictures.read(source, png=kind == PNG, max_bytes=max_bytes)
        stated = {"axes": axes} if key == "image" else {}
        return {key: array, "spacing": spacing, "spacing_unit": unit} | stated


@contextmanager
def _translated(kind: str) -> Iterator[None]:
    try:
        yield
    except (T3dError, MemoryError):
        raise
    except Exception as error:
        # The operating system, not the file; but for seeking to a negative place, which a file has told.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InvalidDatasetError(f"not a readable {kind} file, or a damaged one: {error}") from error


def _as_stored(value: Any, scratch: Path) -> Any:
    """An array in native byte order and C order; one that has another is copied to a file, as memory may be scarce."""
    if not isinstance(value, np.ndarray) or (value.dtype.isnative and value.flags.c_contiguous):
        return value
    copy: Array = np.lib.format.open_memmap(scratch, "w+", value.dtype.newbyteorder("="), value.shape)
    copy[...] = value
    return copy


def _map_npy(path: Path, max_bytes: int) -> Array:
    """The array of an npy file, mapped."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise InvalidDatasetError(f"npy of version {version} holds no plain array; 1.0 and 2.0 are read")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        offset, size = file.tell(), path.stat().st_size
    if dtype.hasobject:
        raise InvalidDatasetError(f"npy of dtype {dtype} holds pickled objects, which are never read; send numbers")
    expected = math.prod(shape) * dtype.itemsize
    if expected > max_bytes:
        raise PayloadTooLargeError(f"the array has {expected} bytes, more than the limit of {max_bytes}")
    if offset + expected > size or min(shape, default=0) < 0:
        raise InvalidDatasetError(f"the npy header tells of {expected} bytes, {size - offset} are there: it is cut off")
    order: Literal["F", "C"] = "F" if fortran else "C"
    if not expected:
        return np.empty(shape, dtype, order)
    return np.memmap(path, dtype, "r", offset, shape, order)


class _ZipFile(io.FileIO):
    """A zip file whose directory is refused where it would fill the memory: zipfile reads it at once."""

    def read(self, size: int | None = -1) -> bytes:
        """As of any file, in pieces of bounded size."""
        if size is not None and size > _ZIP_DIRECTORY_BYTES:
            raise InvalidDatasetError(
                f"the directory of the npz has {size} bytes; a dataset has at most {MAX_KEYS} keys"
            )
        return super().read(size) or b""


def _read_npz(source: Path, scratch: Path, max_bytes: int) -> dict[str, Any]:
    """Arrays of an npz file, each unpacked to a file and mapped."""
    values: dict[str, Any] = {}
    with _ZipFile(source) as raw, zipfile.ZipFile(raw) as archive:
        members = archive.infolist()
        if len(members) > MAX_KEYS:
            raise InvalidDatasetError(f"{len(members)} arrays; a dataset has at most {MAX_KEYS}")
        unpacked = sum(member.file_size for member in members)
        if unpacked > max_bytes + len(members) * _NPY_HEADER_BYTES:
            raise PayloadTooLargeError(f"the npz unpacks to {unpacked} bytes, more than the limit of {max_bytes}")
        for index, member in enumerate(members):
            key = member.filename.removesuffix(".npy")
            if key == member.filename or key in values:
                raise InvalidDatasetError(f"{member.filename}: an npz holds npy files, each of another name")
            # zipfile unpacks a whole block of the others at once, however much that is.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InvalidDatasetError(f"{member.filename}: only deflate is read; write it by np.savez_compressed")
            path = scratch / f"{index}.npy"
            # Never more than the stated size: zipfile stops there, whatever the stream holds.
            with archive.open(member) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1024**2)
            values[key] = _map_npy(path, max_bytes)
    if not values:
        raise InvalidDatasetError("the npz holds no array")
    return values


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
        media_type: one of `WRITABLE`.
        file: a seekable binary file.
        axes: axes of the array, by its shape where None.
        spacing: for each spatial axis, in axis order; TIFF keeps it.
        spacing_unit: unit of `spacing`.

    Raises:
        UnsupportedMediaTypeError: an unknown format, or one that cannot hold this array; it says which can.
    """
    if media_type not in WRITABLE:
        raise UnsupportedMediaTypeError(f"arrays are not written as {media_type!r}; {', '.join(WRITABLE)} are")
    if media_type == NPY:
        np.lib.format.write_array(file, array, allow_pickle=False)
        return
    if not array.size:
        raise UnsupportedMediaTypeError(f"an array of shape {array.shape} is empty, no {media_type}; {NPY} takes any")
    try:
        axes = resolve_axes(array.shape, axes)
    except InvalidDatasetError as error:
        raise UnsupportedMediaTypeError(f"not as {media_type}: {error.message}; {NPY} takes any array") from error
    if media_type == PNG:
        pictures.write_png(array, file, axes=axes)
    else:
        tiff.write(array, file, axes=axes, spacing=spacing, spacing_unit=spacing_unit)


def npy_parts(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[bytes, int]:
    """What stands in front of the bytes of a C-ordered array in an npy file, and how many those are."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue(), math.prod(shape) * dtype.itemsize
