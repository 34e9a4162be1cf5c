"""What is sent as files: data of users, and files that tell how far they were read."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from t3d_server.datasets import hdf5
from t3d_server.datasets.formats import HDF5, guess_content_type
from t3d_server.errors import InvalidDatasetError

Array = np.ndarray[Any, np.dtype[Any]]
Data = Array | Mapping[str, Any] | str | os.PathLike[str]
"""What becomes a dataset: an array, values by key, or the path of a file."""
Progress = Callable[[int, int], None]
"""Hears how many bytes were sent, of how many."""


class _Counted(io.BufferedReader):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, on_progress: Progress) -> None:
        super().__init__(io.FileIO(path))
        self._size_bytes = path.stat().st_size
        self._on_progress = on_progress

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if block:
            self._on_progress(self.tell(), self._size_bytes)
        return block


def open_counted(path: Path, on_progress: Progress | None) -> BinaryIO:
    """A file to read; `on_progress` hears how far that is."""
    return path.open("rb") if on_progress is None else _Counted(path, on_progress)


@contextmanager
def as_file(data: Data, key: str, said: Mapping[str, Any]) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """The data as a file that can be sent.

    Args:
        data: what becomes a dataset.
        key: key of an array.
        said: axes, spacing and spacing_unit, as far as the user gave them.

    Yields:
        The file, its content type, and what of `said` the file does not say itself.

    Raises:
        InvalidDatasetError: it is no dataset.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        yield path, guess_content_type(path), said
        return
    if data is None:
        raise InvalidDatasetError("there is no data: None was given; give an array, values by key, or a path")
    values = dict(data) if isinstance(data, Mapping) else {key: data}
    if "image" in values:
        values, said = {**values, **said}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.h5"
        hdf5.write(path, values)
        yield path, HDF5, said


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
