"""The HDF5 codec of datasets: writes values, reads them without a copy, inspects files nobody vouches for."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.datasets import inflate
from t3d_server.datasets.conventions import (
    DEFAULT_SPACING_UNIT,
    MAX_KEYS,
    MAX_TEXT_BYTES,
    MAX_TEXT_ITEMS,
    check,
    check_key,
)
from t3d_server.datasets.values import Array, normalise
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError, Problem, T3dError
from t3d_server.models import ArrayInfo

# Arrays begin on cache lines, so that they can be mapped and are aligned for any dtype; all metadata comes first, so
# that one range read gets it.
_LAYOUT = {"alignment_threshold": 1, "alignment_interval": 64, "meta_block_size": 8192}
# A mapping holds a file descriptor as long as its arrays live: what is copied in a blink is not mapped.
_MAP_FROM_BYTES = 1024**2
_MAX_CHUNKS = 1_000_000
_MAX_SPACING = 16
# By HDF5's numbers. Others need plugins that a reader may lack, or decoders with a history of memory faults.
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_GZIP = 1
_PACKERS = {_GZIP, 32000}


@dataclass(frozen=True)
class Contents:
    """What a file holds, without its arrays.

    Attributes:
        arrays: every numeric array by key.
        values: text, lists of text and numbers by key.
        axes: axes of `image`, None without one.
        spacing: spacing of the image's spatial axes.
        spacing_unit: unit of `spacing`, None without one.
        unpacked_bytes: size of all of it in memory.
        offsets: where in the file each array lies that is there in one piece, C-ordered and native.
    """

    arrays: dict[str, ArrayInfo] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    spacing_unit: str | None = None
    unpacked_bytes: int = 0
    offsets: dict[str, int] = field(default_factory=dict)


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write a dataset, contiguous and uncompressed.

    Args:
        path: the file to write, replacing what is there.
        values: what `values.normalise` takes. `axes` says the axes of `image`; without it they follow its shape.

    Raises:
        InvalidDatasetError: naming every key that cannot be stored or breaks a convention; nothing is written.
    """
    _write(path, values, holes=False)


def lay_out(path: Path, values: Mapping[str, Any]) -> dict[str, tuple[int, Array]]:
    """Write a dataset, but for the bytes of its arrays: for who sends them from where they are.

    Args:
        path: the file to write; it is as long as it will be, with holes.
        values: as `write`.

    Returns:
        For each array that has any bytes, by key: where in the file they belong, in C order, and the array.

    Raises:
        InvalidDatasetError: as `write`.
    """
    return _write(path, values, holes=True)


def _write(path: Path, values: Mapping[str, Any], *, holes: bool) -> dict[str, tuple[int, Array]]:
    plain = normalise(values)
    arrays = {key: value for key, value in plain.items() if isinstance(value, np.ndarray) and value.ndim}
    others = {key: value for key, value in plain.items() if key not in arrays or key == "spacing"}
    problems: list[Problem] = []
    axes, spacing = check(arrays, others, problems)
    if problems:
        raise InvalidDatasetError("the dataset cannot be stored", problems=problems)
    if axes is not None:
        plain.pop("axes", None)
    if spacing is not None:
        plain["spacing"] = np.asarray(spacing, np.float64)
    try:
        with h5py.File(path, "w", **_LAYOUT) as file:
            left = {}
            for key in sorted(plain, key=lambda name: name in arrays):
                if holes and key in arrays and arrays[key].size:
                    hole = file.create_dataset(key, arrays[key].shape, arrays[key].dtype, dcpl=_hole())
                    left[key] = hole.id.get_offset(), arrays[key]
                else:
                    file.create_dataset(key, data=plain[key])
            if axes is not None:
                file["image"].attrs["axes"] = axes
        return left
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def annotate(
    path: Path, *, axes: str | None = None, spacing: Sequence[float] | None = None, spacing_unit: str | None = None
) -> None:
    """Say axes and spacing in a file that `inspect` has passed; what is None stays as it is.

    Raises:
        InvalidDatasetError: axes without an image, or the file cannot be changed.
    """
    with _translated(), h5py.File(path, "r+") as file:
        if axes is not None:
            if "image" not in file:
                raise InvalidDatasetError(f"axes {axes!r} say how `image` lies; there is {', '.join(file)}")
            file["image"].attrs["axes"] = axes.upper()
        for key, value in (("spacing", spacing), ("spacing_unit", spacing_unit)):
            if value is not None:
                file.pop(key, None)
                file[key] = value if isinstance(value, str) else np.asarray(value, np.float64)


def read(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Read a dataset.

    Large contiguous arrays are mapped, not copied: writable, and what is written to them stays in this process. The
    file may be unlinked once this returns, but not changed while the arrays live.

    Args:
        path: a file that `write` made or `inspect` passed.
        keys: what to read, one key or several; everything where empty. `axes` is there with every image.

    Returns:
        By key: native, aligned, C-ordered arrays; numbers; text; lists of text. None for a key that is not there.

    Raises:
        InvalidDatasetError: the file is damaged or no dataset.
    """
    keys = [keys] if isinstance(keys, str) else keys
    with _translated(), path.open("rb") as raw, h5py.File(path, "r", locking=False) as file:
        datasets = _datasets(file, os.fstat(raw.fileno()).st_size)
        offsets = {name: _offset(item) for name, item in datasets.items() if not keys or name in keys}
        values: dict[str, Any] = dict.fromkeys(keys)
        mapping: mmap.mmap | None = None
        for name, offset in offsets.items():
            item = datasets[name]
            if offset is None or item.nbytes < _MAP_FROM_BYTES:
                values[name] = _value(item)
                continue
            if mapping is None:
                mapping = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY)
            flat = np.frombuffer(mapping, _plain_dtype(item.dtype), math.prod(item.shape), offset)
            values[name] = flat.reshape(item.shape)
        if "image" in datasets and (not keys or "axes" in keys):
            said = _stored_axes(datasets)
            values["axes"] = resolve_axes(datasets["image"].shape, said)
        return values


def inspect(
    source: Path | BinaryIO, *, max_bytes: int, axes: str | None = None, spacing: Sequence[float] | None = None
) -> Contents:
    """Check a file without reading its arrays, and tell what it holds.

    Args:
        source: a path, or a seekable file object, of which only what is needed is read.
        max_bytes: largest size of the file, and of its arrays once unpacked.
        axes: what its sender says, which goes before what the file says.
        spacing: likewise.

    Raises:
        InvalidDatasetError: no HDF5, damaged, or not a flat dataset that keeps the conventions; names every key.
        PayloadTooLargeError: more than `max_bytes`.
    """
    size = source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)
    if size == 0:
        raise InvalidDatasetError("the file is empty; send a HDF5 file with at least one dataset")
    if size > max_bytes:
        raise PayloadTooLargeError(f"the file has {size} bytes, more than the limit of {max_bytes}")
    with _translated(), h5py.File(source, "r", locking=False) as file:
        datasets = _datasets(file, size)
        if not datasets:
            raise InvalidDatasetError("the file holds no dataset")
        unpacked = sum(_unpacked_bytes(item) for item in datasets.values())
        if unpacked > max_bytes:
            raise PayloadTooLargeError(f"the file unpacks to {unpacked} bytes, more than the limit of {max_bytes}")
        return _contents(datasets, axes, spacing)


def check_chunks(path: Path) -> None:
    """Unpack every compressed chunk once, in the memory of one chunk: costs as much as reading them.

    Args:
        path: a file that `inspect` has passed.

    Raises:
        InvalidDatasetError: a chunk cannot be unpacked, or unpacks to more than its size; names the key.
    """
    with _translated(), path.open("rb") as raw, h5py.File(path, "r", locking=False) as file:
        for name, item in _datasets(file, os.fstat(raw.fileno()).st_size).items():
            filters = _filters(item)
            if not filters or h5py.check_string_dtype(item.dtype) is not None:
                continue
            chunks: list[Any] = []
            item.id.chunk_iter(chunks.append)
            for chunk in chunks:
                if _GZIP in filters and not chunk.filter_mask:
                    raw.seek(chunk.byte_offset)
                    if not inflate.is_bounded(raw, chunk.size, math.prod(item.chunks) * item.dtype.itemsize):
                        raise InvalidDatasetError(
                            f"{name}: the chunk at {chunk.chunk_offset} unpacks to more than a chunk"
                        )
                area = zip(chunk.chunk_offset, item.chunks, item.shape, strict=True)
                try:
                    item[tuple(slice(start, min(start + length, end)) for start, length, end in area)]
                except OSError as error:
                    raise InvalidDatasetError(
                        f"{name}: the chunk at {chunk.chunk_offset} is damaged ({error}); write the file again"
                    ) from error


def _hole() -> Any:
    """How a dataset is created that has its place in the file at once, and no bytes there."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return plan


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except T3dError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:  # the operating system, not the file
            raise
        raise InvalidDatasetError(f"not a readable HDF5 file, or a damaged one: {error}") from error


def _datasets(file: h5py.File, size: int) -> dict[str, h5py.Dataset]:
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
    filters = _filters(item)
    if not set(filters) <= set(_FILTERS) or len(_PACKERS & set(filters)) + len(filters) > len(set(filters)) + 1:
        return f"is packed by HDF5 filters {filters}; allowed are {', '.join(_FILTERS.values())}, one packing once"
    if item.chunks is not None:
        count = math.prod(-(-length // chunk) for length, chunk in zip(item.shape, item.chunks, strict=True))
        return f"has {count} chunks; at most {_MAX_CHUNKS} are read" if count > _MAX_CHUNKS else None
    offset = item.id.get_offset()
    if offset is not None and offset + math.prod(item.shape) * dtype.itemsize > size:
        return f"reaches past the end of the file of {size} bytes: the file is cut off"
    return None


def _filters(item: h5py.Dataset) -> list[int]:
    plan = item.id.get_create_plist()
    return [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]


def _unpacked_bytes(item: h5py.Dataset) -> int:
    # A chunk may be larger than the array in it, and is unpacked whole.
    count: int = max(math.prod(item.shape), math.prod(item.chunks or (0,)))
    return count * int(item.dtype.itemsize)


def _plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The native dtype, without what h5py keeps in its metadata."""
    return np.dtype(dtype.str).newbyteorder("=")


def _offset(item: h5py.Dataset) -> int | None:
    """Where the array can be mapped, None where it has to be copied."""
    dtype = _plain_dtype(item.dtype)
    # A byte that is neither 0 nor 1 makes numpy count a bool array wrong and write past the end of what it indexes.
    if dtype.kind not in "iuf" or not item.shape or not item.size or item.chunks is not None:
        return None
    if not item.id.get_type().equal(h5py.h5t.py_create(dtype)):
        return None
    offset: int | None = item.id.get_offset()
    return None if offset is None or offset % dtype.itemsize else offset


def _value(item: h5py.Dataset) -> Any:
    """Value of a dataset, by copy."""
    if h5py.check_string_dtype(item.dtype) is not None:
        text = item.asstr("utf-8", "replace")[()]
        return text if isinstance(text, str) else text.tolist()
    array: Array = np.asarray(item[()])
    array = array.view(array.dtype.str).astype(_plain_dtype(array.dtype), copy=False)
    if array.dtype == np.bool_:
        array = np.asarray(array.view(np.uint8) != 0)
    return array if item.shape else array.item()


def _stored_axes(datasets: Mapping[str, h5py.Dataset]) -> str | None:
    """Axes from the image's attribute, or from a key `axes`, where other writers may put them."""
    said = datasets["image"].attrs.get("axes")
    if said is None and "axes" in datasets:
        said = _value(datasets["axes"])
    if isinstance(said, bytes):
        said = said.decode("ascii", "replace")
    if said is not None and not isinstance(said, str):
        raise InvalidDatasetError(f"image: the attribute `axes` is text, such as 'ZYX', not {said!r:.80}")
    return said


def _contents(datasets: Mapping[str, h5py.Dataset], axes: str | None, said_spacing: Sequence[float] | None) -> Contents:
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    text_left = MAX_TEXT_BYTES
    for name, item in datasets.items():
        if h5py.check_string_dtype(item.dtype) is not None:
            text_left -= _text_bytes(item, text_left)
            if text_left < 0:
                raise InvalidDatasetError(
                    f"{name}: more than {MAX_TEXT_BYTES} bytes of text in the file; store long text as a uint8 array"
                )
            values[name] = _value(item)
        elif not item.shape:
            values[name] = _value(item)
    arrays = {name: item for name, item in datasets.items() if name not in values}
    stored = arrays.get("spacing")
    if said_spacing is None and stored is not None:
        said_spacing = _value(stored) if stored.size <= _MAX_SPACING else ()
    spacings = {} if said_spacing is None else {"spacing": said_spacing}
    if axes is None and "image" in arrays:
        axes = _stored_axes(datasets)
    axes, spacing = check(arrays, values | spacings, problems, axes=axes)
    if problems:
        raise InvalidDatasetError("the dataset breaks the conventions", problems=problems)
    return Contents(
        arrays={name: ArrayInfo(shape=item.shape, dtype=item.dtype.name) for name, item in arrays.items()},
        values=values,
        axes=axes,
        spacing=spacing,
        spacing_unit=values.get("spacing_unit", DEFAULT_SPACING_UNIT) if spacing is not None else None,
        unpacked_bytes=sum(map(_unpacked_bytes, datasets.values())),
        offsets={name: offset for name, item in arrays.items() if (offset := _offset(item)) is not None},
    )


def _text_bytes(item: h5py.Dataset, limit: int) -> int:
    """Size of a text or list of text; stops beyond `limit`, for a million items may share one long text."""
    if not item.shape:
        size: int = len(item[()])
        return size
    total = 0
    for index in range(item.size):
        total += len(item[index])
        if total > limit:
            break
    return total
