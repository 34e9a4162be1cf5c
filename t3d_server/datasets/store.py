"""The datasets in the object store: one HDF5 file each, immutable, addressed by id."""

from __future__ import annotations

import io
import math
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from t3d_server.datasets import conversion, formats, hdf5, inspection
from t3d_server.datasets.conventions import layout_of
from t3d_server.errors import DatasetNotFoundError, InvalidRequestError, ObjectNotFoundError
from t3d_server.ids import first_id, is_id, new_id, tag_of, tagged_id, time_of
from t3d_server.models import ArrayInfo, DatasetInfo
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.files import StoredFile
from t3d_server.storage.keys import DATASET_SUFFIX, DATASETS, NAMES, UPLOADS, dataset_key
from t3d_server.storage.retention import Retention, remove_expired, remove_expired_unordered

_CACHED_INFOS = 512
_BLOCK_BYTES = 64 * 1024
_CHUNK_BYTES = 1024**2


class DatasetStore:
    """Stores, describes and reads datasets; safe to use from several threads, and can be pickled.

    Args:
        store: where the files are kept, as `datasets/<id>.h5`.
        scratch: folder for temporary files; made when it is first needed, and left empty.
        max_dataset_bytes: largest size of a dataset, as a file and unpacked.
        keep_s: how long a dataset is kept; None for ever.
    """

    def __init__(
        self, store: ObjectStore, *, scratch: Path, max_dataset_bytes: int, keep_s: float | None = None
    ) -> None:
        self._store = store
        self._scratch = scratch
        self._max_bytes = max_dataset_bytes
        self._retention = Retention("dataset", keep_s, "T3D_KEEP_DATASETS_S")
        # Datasets never change and ids are never used again, so that nothing here grows stale.
        self._contents = lru_cache(_CACHED_INFOS)(self._inspect_stored)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = partial(
            DatasetStore, scratch=self._scratch, max_dataset_bytes=self._max_bytes, keep_s=self._retention.keep_s
        )
        return rebuild, (self._store,)

    def add_upload(
        self,
        source: Path,
        content_type: str,
        *,
        key: str = "image",
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        spacing_unit: str | None = None,
    ) -> DatasetInfo:
        """Store an uploaded file as a new dataset; options and errors are those of `conversion.convert`."""
        with self._temporary() as path:
            conversion.convert(
                source,
                content_type,
                path,
                key=key,
                axes=axes,
                spacing=spacing,
                spacing_unit=spacing_unit,
                max_bytes=self._max_bytes,
            )
            return self._put(path)

    def add(self, values: Mapping[str, Any], *, tag: str | None = None) -> DatasetInfo:
        """Store values as a new dataset.

        Args:
            values: arrays, numbers and text by key, as `hdf5.write` takes them.
            tag: what the id belongs to, see `tagged_id`; `remove_tagged` finds it by that.

        Raises:
            InvalidDatasetError: naming every key that cannot be stored.
            PayloadTooLargeError: more than the limit.
        """
        with self._temporary() as path:
            hdf5.write(path, values)
            return self._put(path, tag)

    def info(self, dataset_id: str) -> DatasetInfo:
        """What a dataset holds; reads a few kilobytes of it.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset.
        """
        return _info(dataset_id, self.size(dataset_id), self._contents(dataset_id))

    def size(self, dataset_id: str) -> int:
        """Size of the file in bytes.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset.
        """
        with self._named(dataset_id):
            return self._store.stat(dataset_key(dataset_id)).size_bytes

    def open(self, dataset_id: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream the file, or `length` bytes of it from `offset`.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset; told before the first chunk.
        """
        with self._named(dataset_id):
            return self._store.get(dataset_key(dataset_id), offset=offset, length=length)

    def array_size(self, dataset_id: str, name: str, media_type: str) -> int | None:
        """Size in bytes of one array in a format for other programs, None where only writing it tells.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset.
            InvalidRequestError: it has no such array.
        """
        self.size(dataset_id)
        array = self._array_info(dataset_id, name)
        header = _header(array, media_type)
        return None if header is None else len(header) + _bytes_of(array)

    def open_array(self, dataset_id: str, name: str, media_type: str) -> tuple[int, Iterator[bytes]]:
        """Stream one array in a format for other programs.

        Args:
            dataset_id: the dataset.
            name: key of the array.
            media_type: one of `formats.WRITABLE`.

        Returns:
            Its size in bytes, and the bytes.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset.
            InvalidRequestError: it has no such array.
            UnsupportedMediaTypeError: the format cannot hold this array.
        """
        array = self._array_info(dataset_id, name)
        header, length = _header(array, media_type), _bytes_of(array)
        contents = self._contents(dataset_id)
        if header is not None and name in contents.offsets:
            return len(header) + length, _chain(header, self.open(dataset_id, contents.offsets[name], length))
        return self._encoded(dataset_id, name, media_type, contents)

    def read(self, dataset_id: str, keys: Sequence[str] = ()) -> dict[str, Any]:
        """Read a dataset through a file that is gone when this returns; large arrays are mapped, not copied.

        Args:
            dataset_id: the dataset.
            keys: what to read, one key or several; everything where empty.

        Returns:
            As `hdf5.read`.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset.
        """
        with self._fetched(dataset_id) as path:
            return hdf5.read(path, keys)

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset.

        Raises:
            DatasetNotFoundError, ExpiredError: there is no such dataset.
        """
        self.size(dataset_id)
        self._store.delete(dataset_key(dataset_id))

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        """Remove the datasets that belong to these tags, which costs a listing of all that were stored since then.

        Args:
            tags: of what is to be removed.
            since: before the first of them was stored.
            but: ids of datasets that stay.
        """
        for stat in self._store.list(DATASETS, start_after=DATASETS + first_id(since)):
            dataset_id = stat.key.removeprefix(DATASETS).removesuffix(DATASET_SUFFIX)
            if tag_of(dataset_id) in tags and dataset_id not in but:
                self._store.delete(stat.key)

    def require(self, dataset_id: str) -> None:
        """Return if a run that begins now may read a dataset.

        Raises:
            DatasetNotFoundError: there is no such dataset.
            ExpiredError: it has expired, be it that it is still there.
        """
        if (expired := self._retention.expired(dataset_id)) is not None:
            raise expired
        self.size(dataset_id)

    @property
    def expires(self) -> bool:
        """Whether datasets expire."""
        return bool(self._retention)

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        """Remove some of the datasets that have expired, at most `limit`, but for these; returns how many."""
        return remove_expired(self._store, DATASETS, DATASET_SUFFIX, self._retention, spared=spared, limit=limit)

    def remove_expired_uploads(self, limit: int) -> int:
        """Remove some of the uploads of the v0 API that are that old, and names of datasets that have expired.

        Args:
            limit: most objects to remove.

        Returns:
            How many were removed.
        """
        count = remove_expired_unordered(self._store, UPLOADS, self._retention, limit=limit)
        return count + remove_expired_unordered(self._store, NAMES, self._retention, limit=limit - count)

    @contextmanager
    def _named(self, dataset_id: str) -> Iterator[None]:
        """Refuses what is no id, and names the dataset where its object is missing."""
        missing = f"there is no dataset {dataset_id!r}"
        if not is_id(dataset_id):
            raise DatasetNotFoundError(f"{missing}: that is no dataset id")
        try:
            yield
        except ObjectNotFoundError as error:
            raise self._retention.expired(dataset_id) or DatasetNotFoundError(missing) from error

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            yield Path(folder) / "dataset.h5"

    @contextmanager
    def _fetched(self, dataset_id: str) -> Iterator[Path]:
        with self._temporary() as path:
            with path.open("wb") as file:
                for chunk in self.open(dataset_id):
                    file.write(chunk)
            yield path

    def _put(self, path: Path, tag: str | None = None) -> DatasetInfo:
        contents = inspection.inspect(path, max_bytes=self._max_bytes)
        dataset_id = new_id() if tag is None else tagged_id(tag)
        with path.open("rb") as file:
            self._store.put(dataset_key(dataset_id), file)
        return _info(dataset_id, path.stat().st_size, contents)

    def _inspect_stored(self, dataset_id: str) -> inspection.Contents:
        size = self.size(dataset_id)
        file = io.BufferedReader(StoredFile(self._store, dataset_key(dataset_id), size), _BLOCK_BYTES)
        # The limit is for what comes in; what is stored stays readable when it is lowered.
        return inspection.inspect(file, max_bytes=sys.maxsize)

    def _array_info(self, dataset_id: str, name: str) -> ArrayInfo:
        arrays = self._contents(dataset_id).arrays
        if name not in arrays:
            there = ", ".join(arrays) or "none"
            raise InvalidRequestError(f"dataset {dataset_id} has no array {name!r:.300}; its arrays: {there}")
        return arrays[name]

    def _encoded(
        self, dataset_id: str, name: str, media_type: str, contents: inspection.Contents
    ) -> tuple[int, Iterator[bytes]]:
        with self._fetched(dataset_id) as path:
            array = hdf5.read_array(path, name, path.with_suffix(".array"))
            file = path.with_suffix(".encoded").open("w+b")  # outlives its name; the iterator below closes it
        axes, spacing = layout_of(name, array.ndim, contents.axes, contents.spacing)
        try:
            conversion.encode_array(
                array,
                media_type,
                file,
                axes=axes,
                spacing=spacing,
                spacing_unit=contents.spacing_unit,
            )
            size_bytes = file.seek(0, io.SEEK_END)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return size_bytes, _drain(file)


def _info(dataset_id: str, size_bytes: int, contents: inspection.Contents) -> DatasetInfo:
    return DatasetInfo(
        id=dataset_id,
        size_bytes=size_bytes,
        created_at=time_of(dataset_id),
        arrays=contents.arrays,
        values=contents.values,
        axes=contents.axes,
        spacing=contents.spacing,
        spacing_unit=contents.spacing_unit,
    )


def _header(array: ArrayInfo, media_type: str) -> bytes | None:
    """What precedes the bytes of an array in a format that has nothing else; None for other formats."""
    header = formats.by_content_type(media_type).header
    return None if header is None else header(array.shape, np.dtype(array.dtype))


def _bytes_of(array: ArrayInfo) -> int:
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _drain(file: Any) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
