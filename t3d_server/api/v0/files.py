"""Files of the v0 API: datasets by their ids, or by names that clients chose for presigned uploads.

uploads/v0/<name>~<id>     what a client has put there by a presigned URL, each of which has another id
names/v0/<name>.json       the dataset that the newest of them has become when it was used, and which one that was

As long as its URL is valid, a client may put another file in the place of an upload at any moment, which would be lost
if it were removed here. So what has become a dataset is removed some time after that.
"""

from __future__ import annotations

import asyncio
import math
import re
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from weakref import WeakValueDictionary

from t3d_server.api.service import Service
from t3d_server.datasets.formats import HDF5
from t3d_server.errors import (
    ConflictError,
    DatasetNotFoundError,
    ExpiredError,
    InvalidDatasetError,
    InvalidRequestError,
    ObjectNotFoundError,
    PayloadTooLargeError,
    Problem,
    StoreUnavailableError,
)
from t3d_server.ids import canonical, first_id, is_id, new_id
from t3d_server.models import Model
from t3d_server.runs.tasks import Tasks
from t3d_server.storage.base import ObjectStat, Presigner, read
from t3d_server.storage.keys import UPLOADS, dataset_key, name_key, upload_key

EXPIRES_S = 3600
STAYS_S = 2 * EXPIRES_S
"""How long an upload stays after its URL was given: sending it may begin at the last moment, and takes its time."""
TIDIED_S = 3600
"""Time between two looks for uploads that may go, since all there are have to be listed."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class _Named(Model):
    dataset_id: str
    upload: str = ""


class Files:
    """Finds datasets, and takes in what was uploaded beside the server.

    Args:
        service: the operations.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks = Tasks()
        self._tidied = -math.inf

    async def upload_url(self, name: str) -> str:
        """Where a client can put a file of this name.

        Raises:
            InvalidRequestError: it cannot be a name, or the store signs no URLs.
            ConflictError: a dataset has it as its id.
        """
        if not _NAME.fullmatch(name):
            allowed = "up to 200 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`"
            raise InvalidRequestError(
                "The name cannot be used.",
                problems=[Problem("path.object_name", f"found {name!r:.80}, allowed are {allowed}")],
            )
        presigner, name = self._presigner(), _plain(name)
        if await self._is_dataset(canonical(name)):
            raise ConflictError(f"{name} is the id of a file, and files never change: choose another name.")
        if time.monotonic() - self._tidied >= TIDIED_S:
            self._tidied = time.monotonic()
            self._tasks.start(self._service.workers.run(self._tidy))
        return presigner.presigned("PUT", upload_key(name, new_id()), EXPIRES_S)

    async def download_url(self, name: str) -> str:
        """Where a client can get a file.

        Raises:
            DatasetNotFoundError: there is none.
            InvalidDatasetError, PayloadTooLargeError: what was uploaded is no dataset.
            InvalidRequestError: the store signs no URLs.
        """
        presigner = self._presigner()
        return presigner.presigned("GET", dataset_key(await self.dataset_of(name)), EXPIRES_S)

    async def dataset_of(self, name: str) -> str:
        """Id of the dataset of an id or a name; what was uploaded under the name becomes one first.

        Raises:
            DatasetNotFoundError: there is none.
            InvalidDatasetError, PayloadTooLargeError: what was uploaded is no dataset.
        """
        if await self._is_dataset(identifier := canonical(name)):
            return identifier
        name = _plain(name)
        if not _NAME.fullmatch(name):
            raise _missing(name)
        # Two executions may use it first at the same time, and are to get the same dataset.
        async with self._turn(name):
            dataset_id = await self._service.workers.run(self._named, name)
        if dataset_id is None or not await self._is_dataset(dataset_id):
            raise _missing(name)
        return dataset_id

    async def delete(self, name: str) -> None:
        """Remove a file and its name.

        Raises:
            DatasetNotFoundError: there is none.
        """
        if await self._is_dataset(identifier := canonical(name)):
            await self._service.delete(identifier)
            return
        name = _plain(name)
        if not _NAME.fullmatch(name):
            raise _missing(name)
        async with self._turn(name):
            if not await self._service.workers.run(self._delete_named, name):
                raise _missing(name)

    def _turn(self, name: str) -> asyncio.Lock:
        return self._turns.setdefault(name, asyncio.Lock())

    async def _is_dataset(self, dataset_id: str) -> bool:
        """Whether it is there, and may become an input."""
        try:
            await self._service.workers.run(self._service.datasets.require, dataset_id)
        except (DatasetNotFoundError, ExpiredError):
            return False
        return True

    def _named(self, name: str) -> str | None:
        """The dataset of a name; what was put there since it was last used goes before what was there."""
        known, upload = self._known(name), self._upload(name)
        if upload is None or (known is not None and known.upload == _version(upload)):
            return None if known is None else known.dataset_id
        try:
            dataset_id = self._take_in(upload)
        except (InvalidDatasetError, PayloadTooLargeError) as error:
            raise type(error)(f"The file {name!r}: {error.message}", problems=error.problems) from error
        known = self._known(name)
        if known is not None and known.upload == _version(upload):  # by the other port, which has locks of its own
            self._service.datasets.delete(dataset_id)
            return known.dataset_id
        named = _Named(dataset_id=dataset_id, upload=_version(upload))
        self._service.store.put(name_key(name), named.model_dump_json().encode())
        return dataset_id

    def _take_in(self, upload: ObjectStat) -> str:
        limit = self._service.limits.max_dataset_bytes
        if upload.size_bytes > limit:
            raise PayloadTooLargeError(f"It is larger than the limit of {limit} bytes.")
        self._service.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._service.scratch, prefix="upload-") as file:
            for chunk in self._service.store.get(upload.key):
                file.write(chunk)
            file.flush()
            return self._service.datasets.add_upload(Path(file.name), HDF5).id

    def _known(self, name: str) -> _Named | None:
        try:
            return _Named.model_validate_json(read(self._service.store, name_key(name)))
        except ObjectNotFoundError:
            return None

    def _upload(self, name: str) -> ObjectStat | None:
        """The newest one."""
        return max(self._service.store.list(upload_key(name, "")), key=_age, default=None)

    def _tidy(self) -> None:
        with suppress(StoreUnavailableError):  # the next time, then
            self._remove_used()

    def _remove_used(self) -> None:
        """Remove uploads that have become datasets, and those before them, once no URL can replace any of them."""
        before = first_id(datetime.now(UTC) - timedelta(seconds=STAYS_S))
        uploads = self._service.store.list(UPLOADS)
        for folder, found in groupby(uploads, lambda upload: upload.key.rpartition("~")[0]):
            *others, newest = sorted(found, key=_age)
            if any(each.key.rpartition("~")[2] >= before for each in (*others, newest)):
                continue
            known = self._known(folder.removeprefix(UPLOADS))
            if known is not None and known.upload == _version(newest):
                for each in (*others, newest):  # in this order: the newest of those that are left is the file
                    self._service.store.delete(each.key)

    def _delete_named(self, name: str) -> bool:
        """Whether there was something."""
        known, upload = self._known(name), self._upload(name)
        found = upload is not None and (known is None or known.upload != _version(upload))
        for each in self._service.store.list(upload_key(name, "")):
            self._service.store.delete(each.key)
        if known is not None:
            with suppress(DatasetNotFoundError, ExpiredError):  # it was deleted by its id, before
                self._service.datasets.delete(known.dataset_id)
                found = True
            self._service.store.delete(name_key(name))
        return found

    def _presigner(self) -> Presigner:
        if not isinstance(self._service.store, Presigner):
            raise InvalidRequestError("The object store here gives no URLs: send files to /api/v0/files.")
        return self._service.store


def _plain(name: str) -> str:
    """A name as it is; one that looks like a UUID of version 7, in lower case.

    One that looks like version 1 is kept: clients choose such names, and records of them are in the store.
    """
    return name.lower() if is_id(name.lower()) else name


def _version(upload: ObjectStat) -> str:
    """Distinguishes an upload from the next one, even with the same content or in the same second."""
    return f"{upload.key} {upload.stored_at.isoformat()} {upload.etag}"


def _age(upload: ObjectStat) -> tuple[datetime, str]:
    """Sort key of the uploads of a name, the newest last; within one second, by the time of their URLs."""
    return upload.stored_at, upload.key


def _missing(name: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(f"There is no file {name!r:.220}.")
