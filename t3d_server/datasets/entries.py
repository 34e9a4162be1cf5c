"""What is at the root of an HDF5 file that nobody vouches for: which of it can be read without harm, and its values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from t3d_server.datasets.conventions import MAX_KEYS, MAX_TEXT_BYTES, MAX_TEXT_ITEMS, check_key
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, Problem, T3dError

GZIP = 1
_MAX_CHUNKS = 1_000_000
# By HDF5's numbers. Others need plugins that a reader may lack, or decoders with a history of memory faults.
_FILTERS = {GZIP: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_PACKERS = {GZIP, 32000}


@contextmanager
def translated() -> Iterator[None]:
    """Turns what h5py raises at a damaged file into `InvalidDatasetError`."""
    try:
        yield
    except T3dError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:  # the operating system, not the file
            raise
        raise InvalidDatasetError(f"not a readable HDF5 file, or a damaged one: {error}") from error


def safe_datasets(file: h5py.File, size: int) -> dict[str, h5py.Dataset]:
    """Every dataset at the root, each safe to read; those without a value (a null dataspace) are left out."""
    if len(file) > MAX_KEYS:
        raise InvalidDatasetError(f"{len(file)} keys; a dataset has at most {MAX_KEYS}")
    found: dict[str, h5py.Dataset] = {}
    problems: list[Problem] = []
    for name in file:
        fault = check_key(name)
        if fault is None and not isinstance(file.get(name, getlink=True), h5py.HardLink):
            fault = "is a link; store the data itself in this file"
        if fault is None:
            item = file[name]
            fault = _fault(item, size)
            if fault is None and item.shape is not None:
                found[name] = item
        if fault is not None:
            problems.append(Problem(name if isinstance(name, str) else repr(name), fault))
    if problems:
        raise InvalidDatasetError("the file is no dataset that can be served", problems=problems)
    return found


def _fault(item: Any, size: int) -> str | None:
    """What is wrong with an entry of the root group, None if it is safe to read; reads only metadata."""
    if not isinstance(item, h5py.Dataset):
        return (
            "is a group; datasets are flat, put its arrays at the root" if isinstance(item, h5py.Group) else "is a type"
        )
    if item.shape is None:
        return None
    try:
        dtype = item.dtype
    except (TypeError, ValueError) as error:
        return f"has a type that numpy does not know: {error}"
    text = h5py.check_string_dtype(dtype) is not None
    if not text and (dtype.kind not in "biuf" or dtype.itemsize > 8):
        return f"has dtype {dtype}; text, bool, integers and floats of at most 64 bits can be stored"
    if text and (item.ndim > 1 or item.size > MAX_TEXT_ITEMS or item.size * dtype.itemsize > MAX_TEXT_BYTES):
        return f"is text of shape {item.shape}; one string or a list of at most {MAX_TEXT_ITEMS} can be stored"
    if item.is_virtual or item.external:
        return "keeps its data in other files; store the data itself in this file"
    filters = filters_of(item)
    if not set(filters) <= set(_FILTERS) or len(_PACKERS & set(filters)) + len(filters) > len(set(filters)) + 1:
        return f"is packed by HDF5 filters {filters}; allowed are {', '.join(_FILTERS.values())}, one packing once"
    if item.chunks is not None:
        count = math.prod(-(-length // chunk) for length, chunk in zip(item.shape, item.chunks, strict=True))
        return f"has {count} chunks; at most {_MAX_CHUNKS} are read" if count > _MAX_CHUNKS else None
    offset = item.id.get_offset()
    if offset is not None and offset + math.prod(item.shape) * dtype.itemsize > size:
        return f"reaches past the end of the file of {size} bytes: the file is cut off"
    return None


def filters_of(item: h5py.Dataset) -> list[int]:
    """HDF5's numbers of the filters that pack it."""
    plan = item.id.get_create_plist()
    return [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]


def unpacked_size(item: h5py.Dataset) -> int:
    """Bytes that it needs in memory."""
    # A chunk may be larger than the array in it, and is unpacked whole.
    count: int = max(math.prod(item.shape), math.prod(item.chunks or (0,)))
    return count * int(item.dtype.itemsize)


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The native dtype, without what h5py keeps in its metadata."""
    return np.dtype(dtype.str).newbyteorder("=")


def offset_of(item: h5py.Dataset) -> int | None:
    """Where the array can be mapped, None where it has to be copied."""
    dtype = plain_dtype(item.dtype)
    # A byte that is neither 0 nor 1 makes numpy count a bool array wrong and write past the end of what it indexes.
    if dtype.kind not in "iuf" or not item.shape or not item.size or item.chunks is not None:
        return None
    if not item.id.get_type().equal(h5py.h5t.py_create(dtype)):
        return None
    offset: int | None = item.id.get_offset()
    return None if offset is None or offset % dtype.itemsize else offset


def value_of(item: h5py.Dataset) -> Any:
    """Value of a dataset, by copy."""
    if h5py.check_string_dtype(item.dtype) is not None:
        text = item.asstr("utf-8", "replace")[()]
        return text if isinstance(text, str) else text.tolist()
    array: Array = np.asarray(item[()])
    array = array.view(array.dtype.str).astype(plain_dtype(array.dtype), copy=False)
    if array.dtype == np.bool_:
        array = np.asarray(array.view(np.uint8) != 0)
    return array if item.shape else array.item()


def unpack(item: h5py.Dataset, destination: Path) -> Array:
    """An array that cannot be mapped where it is, unpacked to a file and mapped there."""
    array: Array = np.lib.format.open_memmap(destination, "w+", plain_dtype(item.dtype), item.shape)
    if array.size:
        item.read_direct(array)
    if array.dtype == np.bool_:
        np.not_equal(array.view(np.uint8), 0, out=array)
    return array


def stored_axes(datasets: Mapping[str, h5py.Dataset]) -> str | None:
    """Axes from the image's attribute, or from a key `axes`, where other writers may put them."""
    said = datasets["image"].attrs.get("axes")
    if said is None and "axes" in datasets:
        said = value_of(datasets["axes"])
    if isinstance(said, bytes):
        said = said.decode("ascii", "replace")
    if said is not None and not isinstance(said, str):
        raise InvalidDatasetError(f"`axes`, an attribute of `image` or a key, is text, such as 'ZYX', not {said!r:.80}")
    return said
