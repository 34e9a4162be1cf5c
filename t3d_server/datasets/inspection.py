"""Inspects HDF5 files that nobody vouches for: what they hold, and whether it can be served."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from t3d_server.datasets import inflate
from t3d_server.datasets.conventions import DEFAULT_SPACING_UNIT, MAX_TEXT_BYTES, check
from t3d_server.datasets.entries import (
    GZIP,
    filters_of,
    offset_of,
    safe_datasets,
    stored_axes,
    translated,
    unpacked_size,
    value_of,
)
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError, Problem
from t3d_server.models import ArrayInfo

_MAX_SPACING = 16


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
    with translated(), h5py.File(source, "r", locking=False) as file:
        datasets = safe_datasets(file, size)
        if not datasets:
            raise InvalidDatasetError("the file holds no dataset")
        unpacked = sum(unpacked_size(item) for item in datasets.values())
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
    with translated(), path.open("rb") as raw, h5py.File(path, "r", locking=False) as file:
        for name, item in safe_datasets(file, os.fstat(raw.fileno()).st_size).items():
            filters = filters_of(item)
            if not filters or h5py.check_string_dtype(item.dtype) is not None:
                continue
            chunks: list[Any] = []
            item.id.chunk_iter(chunks.append)
            for chunk in chunks:
                if GZIP in filters and not chunk.filter_mask:
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
            values[name] = value_of(item)
        elif not item.shape:
            values[name] = value_of(item)
    arrays = {name: item for name, item in datasets.items() if name not in values}
    stored = arrays.get("spacing")
    if said_spacing is None and stored is not None:
        said_spacing = value_of(stored) if stored.size <= _MAX_SPACING else ()
    spacings = {} if said_spacing is None else {"spacing": said_spacing}
    if axes is None and "image" in arrays:
        axes = stored_axes(datasets)
    axes, spacing = check(arrays, values | spacings, problems, axes=axes)
    if problems:
        raise InvalidDatasetError("the dataset breaks the conventions", problems=problems)
    return Contents(
        arrays={name: ArrayInfo(shape=item.shape, dtype=item.dtype.name) for name, item in arrays.items()},
        values=values,
        axes=axes,
        spacing=spacing,
        spacing_unit=values.get("spacing_unit", DEFAULT_SPACING_UNIT) if spacing is not None else None,
        unpacked_bytes=sum(map(unpacked_size, datasets.values())),
        offsets={name: offset for name, item in arrays.items() if (offset := offset_of(item)) is not None},
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
