"""A folder of slices as one stack: in natural order, and one slice in memory at a time."""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.datasets import conversion, formats, hdf5
from t3d_server.datasets.formats.base import Format
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, Problem, T3dError, UnsupportedMediaTypeError

_NAMED = 20


@dataclass(frozen=True)
class Stack:
    """A stack whose slices are files; iterating reads them, each of the shape and dtype of the first.

    Attributes:
        files: the slices, in order.
        shape: (Z, Y, X) or (Z, Y, X, 3 or 4).
        dtype: of each slice.
        axes: "ZYX" or "ZYXC".
    """

    files: Sequence[Path]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str

    def __iter__(self) -> Iterator[Array]:
        for path in self.files:
            array = _read(path)
            if array.shape != self.shape[1:] or array.dtype != self.dtype:
                raise _unequal(self.files)
            yield array


def find(folder: Path) -> Stack:
    """The stack that a folder holds; of the slices only the first is read.

    Slices are TIFF, PNG, JPEG or npy files, all of one of these formats. Hidden files, and files of formats that are
    not read at all, such as notes beside them, do not count.

    Args:
        folder: the folder; what is in folders of it does not count.

    Raises:
        InvalidDatasetError: no slices, or files of several formats.
    """
    found: dict[Format, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=_natural):
        if path.is_file() and not path.name.startswith("."):
            try:
                found.setdefault(formats.by_suffix(path), []).append(path)
            except UnsupportedMediaTypeError:
                continue
    if not found:
        raise InvalidDatasetError(f"{folder}: the folder holds no slices (TIFF, PNG, JPEG or npy files)")
    [kind, *others] = found
    if others or kind.holds_dataset:
        counts = ", ".join(f"{len(files)} {kind.media_type} ({files[0].name})" for kind, files in found.items())
        raise InvalidDatasetError(
            f"{folder}: a folder of slices holds TIFF, PNG, JPEG or npy files of one format, this one holds {counts}; "
            "give whole datasets as files"
        )
    files = found[kind]
    first = _read(files[0])
    axes = {2: "ZYX", 3: "ZYXC"}[first.ndim]
    return Stack(files, (len(files), *first.shape), first.dtype, axes)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts slice2 before slice10."""
    parts = re.split(r"(\d+)", path.stem.casefold())  # text and digits take turns, so that like meets like
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def _read(path: Path) -> Array:
    """One slice: (Y, X) or (Y, X, 3 or 4)."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder) / "slice.h5"
            media_type = formats.by_suffix(path).media_type
            conversion.convert(path, media_type, converted, key="slice", max_bytes=sys.maxsize)
            array: Array = hdf5.read(converted)["slice"]
        axes = resolve_axes(array.shape)
    except T3dError as error:
        raise type(error)(f"{path}: {error.message}", problems=error.problems) from error
    if "Z" in axes:
        raise InvalidDatasetError(f"{path}: a stack of shape {array.shape}, where a folder has to hold single slices")
    return np.moveaxis(array, 0, -1) if axes == "CYX" else array


def _unequal(files: Sequence[Path]) -> InvalidDatasetError:
    """Names each file that is not as most are."""
    kinds: dict[Path, str] = {}
    for path in files:
        array = _read(path)
        kinds[path] = f"shape {array.shape}, dtype {array.dtype}"
    [(usual, count)] = Counter(kinds.values()).most_common(1)
    problems = [Problem(str(path), kind) for path, kind in kinds.items() if kind != usual]
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return InvalidDatasetError(
        f"the slices of a folder have one shape and dtype; {count} have {usual}, but not these{more}",
        problems=problems[:_NAMED],
    )
