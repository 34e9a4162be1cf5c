"""Files of the v0 API: datasets by their ids, or by names that clients chose for presigned uploads.

uploads/v0/<name>          what a client has put there by a presigned URL, not looked at yet
names/v0/<name>.json       the dataset that it has become when it was first used
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from weakref import WeakValueDictionary

from t3d_server.api.service import Service
from t3d_server.datasets.formats import HDF5
from t3d_server.datasets.store import NAMES, UPLOADS
from t3d_server.errors import (
    DatasetNotFoundError,
    ExpiredError,
    InvalidRequestError,
    ObjectNotFoundError,
    PayloadTooLargeError,
    Problem,
)
from t3d_server.models import Model
from t3d_server.storage.base import Presigner, exists, read

EXPIRES_S = 3600
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class _Named(Model):
    dataset_id: str


class Files:
    """Finds datasets, and takes in what was uploaded beside the server.

    Args:
        service: the operations.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def upload_url(self, name: str) -> str:
        """Where a client can put a file of this name.

        Raises:
            InvalidRequestError: it cannot be a name, or the store signs no URLs.
        """
        if not _NAME.fullmatch(name):
            allowed = "up to 200 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`"
            raise InvalidRequestError(
                "The name cannot be used.",
                problems=[Problem("object_name", f"found {name!r:.80}, allowed are {allowed}")],
            )
        return self._presigner().presigned("PUT", _upload_key(name), EXPIRES_S)

    async def download_url(self, name: str) -> str:
        """Where a client can get a file.

        Raises:
            DatasetNotFoundError: there is none.
            InvalidDatasetError: what was uploaded is no dataset.
            InvalidRequestError: the store signs no URLs.
        """
        presigner = self._presigner()
        return presigner.presigned("GET", f"datasets/{await self.dataset_of(name)}.h5", EXPIRES_S)

    async def dataset_of(self, name: str) -> str:
        """Id of the dataset of an id or a name; what was uploaded under the name becomes one first.

        Raises:
            DatasetNotFoundError: there is none.
            InvalidDatasetError: what was uploaded is no dataset.
        """
        if await self._is_dataset(name):
            return name
        if not _NAME.fullmatch(name):
            raise _missing(name)
        # Two executions may use it first at the same time, and are to get the same dataset.
        async with self._turns.setdefault(name, asyncio.Lock()):
            dataset_id = await self._service.workers.run(self._named, name)
        if dataset_id is None or not await self._is_dataset(dataset_id):
            raise _missing(name)
        return dataset_id

    async def delete(self, name: str) -> None:
        """Remove a file and its name.

        Raises:
            DatasetNotFoundError: there is none.
        """
        if await self._is_dataset(name):
            return await self._service.delete(name)
        if not _NAME.fullmatch(name) or not await self._service.workers.run(self._delete_named, name):
            raise _missing(name)
        return None

    async def _is_dataset(self, dataset_id: str) -> bool:
        """Whether it is there, and may become an input."""
        try:
            await self._service.workers.run(self._service.datasets.require, dataset_id)
        except (DatasetNotFoundError, ExpiredError):
            return False
        return True

    def _named(self, name: str) -> str | None:
        """The dataset of a name; what was put there since it was last used goes before what was there."""
        try:
            size_bytes = self._service.store.stat(_upload_key(name)).size_bytes
        except ObjectNotFoundError:
            return self._known(name)
        limit = self._service.limits.max_dataset_bytes
        if size_bytes > limit:
            raise PayloadTooLargeError(f"The file {name!r} is larger than the limit of {limit} bytes.")
        self._service.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._service.scratch, prefix="upload-") as file:
            for chunk in self._service.store.get(_upload_key(name)):
                file.write(chunk)
            file.flush()
            dataset_id = self._service.datasets.add_upload(Path(file.name), HDF5).id
        self._service.store.put(_name_key(name), _Named(dataset_id=dataset_id).model_dump_json().encode())
        self._service.store.delete(_upload_key(name))
        return dataset_id

    def _known(self, name: str) -> str | None:
        try:
            return _Named.model_validate_json(read(self._service.store, _name_key(name))).dataset_id
        except ObjectNotFoundError:
            return None

    def _delete_named(self, name: str) -> bool:
        """Whether there was something."""
        dataset_id, uploaded = self._known(name), exists(self._service.store, _upload_key(name))
        if dataset_id is not None:
            try:
                self._service.datasets.delete(dataset_id)
            except (DatasetNotFoundError, ExpiredError):  # by its id, before
                dataset_id = None
            self._service.store.delete(_name_key(name))
        if uploaded:
            self._service.store.delete(_upload_key(name))
        return uploaded or dataset_id is not None

    def _presigner(self) -> Presigner:
        if not isinstance(self._service.store, Presigner):
            raise InvalidRequestError("The object store here gives no URLs: send files to /api/v0/files.")
        return self._service.store


def _upload_key(name: str) -> str:
    return f"{UPLOADS}{name}"


def _name_key(name: str) -> str:
    return f"{NAMES}{name}.json"


def _missing(name: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(f"There is no file {name!r:.220}.")
