"""The operations behind the HTTP routes and behind the router's handle; knows no HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from t3d_server import __version__
from t3d_server.api.feeds import Feeds
from t3d_server.api.listing import age, one_page
from t3d_server.api.workers import Workers
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import (
    DatasetNotFoundError,
    ExpiredError,
    InvalidRequestError,
    NotFoundError,
    Problem,
    RunNotFoundError,
    ServerUnavailableError,
)
from t3d_server.ids import is_id
from t3d_server.models import (
    AlgorithmInfo,
    AlgorithmVersion,
    DatasetInfo,
    Device,
    LogLine,
    Model,
    Publication,
    PublishRequest,
    Run,
    RunNews,
    RunRequest,
    RunStatus,
    ServerInfo,
)
from t3d_server.packages.folder import find_file
from t3d_server.packages.parameters import args_schema
from t3d_server.packages.registry import Registry
from t3d_server.runs.records import EndedRun, RunRecords
from t3d_server.storage.base import ObjectStore, exists

MAX_WAIT_S = 60.0
MAX_KEY_LENGTH = 255
MAX_RUNS_PER_PAGE = 500
READY_TIMEOUT_S = 5.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CoordinatorPort(Protocol):
    """What the service asks of the coordinator, wherever that runs."""

    async def submit(self, algorithm: str, request: RunRequest, key: str | None) -> Run:
        """Accept a run; the same one again where the same key comes with the same request."""

    async def get(self, run_id: str, wait_s: float) -> Run:
        """A run that is live or has ended lately, after waiting for its end; else RunNotFoundError."""

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run that is live or has ended lately; else RunNotFoundError."""

    async def log(self, run_id: str) -> list[LogLine]:
        """The log of a run that is live or has ended lately; else RunNotFoundError."""

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """What is new of a run that is live or has ended lately; else RunNotFoundError."""

    async def live_runs(self) -> list[Run]:
        """Runs that have not ended."""

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish a folder, or go on publishing it; returns after `wait_s` at the latest."""

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version once it has no live run."""

    async def devices(self) -> list[Device]:
        """Devices that the cluster has."""


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        max_dataset_bytes: largest upload.
        max_blob_bytes: largest file of an algorithm folder.
    """

    max_dataset_bytes: int
    max_blob_bytes: int


class RunPage(Model):
    """A page of runs, newest first.

    Attributes:
        runs: the runs.
        next_cursor: gives the next page, also after one that has few runs, or none; None on the last one.
    """

    runs: list[Run]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Service:
    """The operations, on plain parts.

    Attributes:
        datasets: the datasets.
        registry: the published algorithms.
        records: the records of runs.
        store: where blobs are kept.
        coordinator: owns the live state of runs.
        scratch: folder for request bodies; best on the file system that `datasets` uses.
        limits: what is refused.
        workers: threads for all that blocks.
    """

    datasets: DatasetStore
    registry: Registry
    records: RunRecords
    store: ObjectStore
    coordinator: CoordinatorPort
    scratch: Path
    limits: Limits
    workers: Workers = field(default_factory=Workers)

    @cached_property
    def feeds(self) -> Feeds:
        """Follows runs."""
        return Feeds(self.coordinator, self.records, self.workers)

    async def server(self) -> ServerInfo:
        """The server and its limits."""
        return ServerInfo(
            name="t3d_server",
            version=__version__,
            devices=await self.coordinator.devices(),
            limits={
                "max_dataset_bytes": self.limits.max_dataset_bytes,
                "max_blob_bytes": self.limits.max_blob_bytes,
                "max_wait_s": MAX_WAIT_S,
            },
        )

    async def ready(self) -> None:
        """Return if store and coordinator answer.

        Raises:
            StoreUnavailableError: the store does not.
            ServerUnavailableError: one of them did not answer in time.
        """
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self.workers.run(exists, self.store, "probes/readyz")
                await self.coordinator.devices()
        except TimeoutError as error:
            raise ServerUnavailableError(
                f"The store and the coordinator did not answer within {READY_TIMEOUT_S:g} s."
            ) from error

    async def add_upload(
        self,
        source: Path,
        content_type: str,
        *,
        key: str = "image",
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        spacing_unit: str | None = None,
    ) -> DatasetInfo:
        """Store an uploaded file; see `DatasetStore.add_upload`."""
        return await self.workers.run(
            self.datasets.add_upload,
            source,
            content_type,
            key=key,
            axes=axes,
            spacing=spacing,
            spacing_unit=spacing_unit,
        )

    async def add(self, values: Mapping[str, Any]) -> DatasetInfo:
        """Store values; see `DatasetStore.add`."""
        return await self.workers.run(self.datasets.add, values)

    async def read(self, dataset_id: str, keys: Sequence[str] = ()) -> dict[str, Any]:
        """Values of a dataset; see `DatasetStore.read`."""
        return await self.workers.run(self.datasets.read, dataset_id, keys)

    async def info(self, dataset_id: str) -> DatasetInfo:
        """What a dataset holds."""
        return await self.workers.run(self.datasets.info, dataset_id)

    async def size_bytes(self, dataset_id: str) -> int:
        """Size of a dataset's file."""
        return await self.workers.run(self.datasets.size, dataset_id)

    async def file(self, dataset_id: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """A dataset's file or a range of it, opened when this returns."""
        return self.workers.iterate(await self.workers.run(self.datasets.open, dataset_id, offset, length))

    async def array(self, dataset_id: str, name: str, media_type: str) -> AsyncGenerator[bytes]:
        """One array of a dataset in another format; see `DatasetStore.open_array`."""
        return self.workers.iterate(await self.workers.run(self.datasets.open_array, dataset_id, name, media_type))

    async def delete(self, dataset_id: str) -> None:
        """Remove a dataset."""
        await self.workers.run(self.datasets.delete, dataset_id)

    async def algorithms(
        self, *, algorithm_type: str | None = None, tag: str | None = None, device: Device | None = None
    ) -> list[AlgorithmInfo]:
        """Algorithms by name, those whose current version fits every filter that is given."""
        found = []
        for algorithm in await self.workers.run(self.registry.list):
            manifest = algorithm.version.manifest
            fits = algorithm_type in (None, manifest.algorithm_type)
            fits = fits and (tag is None or tag in manifest.tags)
            if fits and (device is None or device in manifest.supported_devices):
                found.append(algorithm)
        return found

    async def algorithm(self, name: str) -> AlgorithmInfo:
        """An algorithm with its versions."""
        return await self.workers.run(self.registry.info, name)

    async def version(self, name: str, version: str | None = None) -> AlgorithmVersion:
        """A version, the current one where None."""
        return await self.workers.run(self.registry.find, name, version)

    async def args_schema(self, name: str, version: str | None = None) -> dict[str, Any]:
        """JSON Schema of a version's args."""
        return args_schema((await self.version(name, version)).manifest)

    async def has_blob(self, sha256: str) -> bool:
        """Whether a file of an algorithm folder is stored, be it as an asset of a version."""
        _blob_key(sha256)
        return await self.workers.run(find_file, self.store, sha256) is not None

    async def put_blob(self, sha256: str, source: Path) -> None:
        """Store a file of an algorithm folder.

        Raises:
            InvalidRequestError: the file has another hash.
        """
        key = _blob_key(sha256)

        def store() -> None:
            with source.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != sha256:
                    raise InvalidRequestError(f"The body has the SHA-256 {found}, not {sha256}: send it again.")
                file.seek(0)
                self.store.put(key, file)

        await self.workers.run(store)

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish an algorithm folder, or go on with it where the same was asked for before."""
        return await self.coordinator.publish(request, wait_s)

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""
        return await self.coordinator.use(name, version)

    async def remove(self, name: str, version: str, *, cancel_runs: bool) -> None:
        """Remove a version, after its runs have ended or were cancelled."""
        await self.coordinator.remove(name, version, cancel_runs)

    async def submit(
        self, algorithm: str, request: RunRequest, wait_s: float = 0.0, *, idempotency_key: str | None = None
    ) -> Run:
        """Accept a run, and wait up to `wait_s` for its end.

        Args:
            algorithm: what to run.
            request: how.
            wait_s: longest time to wait, in seconds.
            idempotency_key: chosen by the caller; the same request with it again gives the same run.

        Raises:
            InvalidRequestError: the key is empty or too long, or was used for another request.
            DatasetNotFoundError: naming every input dataset that is not there.
            T3dError: as `Coordinator.submit`.
        """
        if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY_LENGTH:
            raise InvalidRequestError(f"The Idempotency-Key has to have 1 to {MAX_KEY_LENGTH} characters.")
        await self._require_datasets(request.input_dataset_ids)
        run = await self.coordinator.submit(algorithm, request, idempotency_key)
        return await self.run(run.id, wait_s) if wait_s > 0 else run

    async def run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run; if it is live, after waiting up to `wait_s` for its end.

        Raises:
            RunNotFoundError: there is none.
        """
        try:
            return await self.coordinator.get(run_id, wait_s)
        except RunNotFoundError:
            return await self.workers.run(self.records.find, run_id)

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run; one that has ended stays as it is.

        Raises:
            RunNotFoundError: there is none.
        """
        try:
            return await self.coordinator.cancel(run_id)
        except RunNotFoundError:
            return await self.workers.run(self.records.find, run_id)

    async def log(self, run_id: str) -> list[LogLine]:
        """The log of a run, so far.

        Raises:
            RunNotFoundError: there is no such run.
        """
        try:
            return await self.coordinator.log(run_id)
        except RunNotFoundError:
            await self.workers.run(self.records.find, run_id)
            return await self.workers.run(self.records.log, run_id)

    async def runs(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        algorithm: str | None = None,
        status: RunStatus | None = None,
    ) -> RunPage:
        """Runs, newest first, live and ended ones.

        A page may have fewer runs than it may have, or none, and yet a next one: a bounded part of the index is looked
        at for each.

        Args:
            limit: most runs on the page.
            cursor: `next_cursor` of the page before.
            algorithm: only runs of this one.
            status: only runs that are there.
        """
        if cursor is not None and not is_id(cursor):
            raise InvalidRequestError(
                "The page is unknown.", problems=[Problem("cursor", "give next_cursor as it was")]
            )
        # Live runs come first: one that ends in between is met twice rather than never.
        live = {
            run.id: run
            for run in await self.coordinator.live_runs()
            if algorithm in (None, run.algorithm)
            and status in (None, run.status)
            and (cursor is None or age(run.id) > age(cursor))
        }

        def ids() -> tuple[list[str], str | None]:
            ended: Iterable[EndedRun] = ()
            if status is None or status.ended:
                ended = self.records.ended_runs(start_after=cursor)
            return one_page(
                live, ended, lambda run: algorithm in (None, run.algorithm) and status in (None, run.status), limit
            )

        page, next_cursor = await self.workers.run(ids)
        runs = await asyncio.gather(*(self._listed(run_id, live) for run_id in page))
        return RunPage(runs=[run for run in runs if run is not None], next_cursor=next_cursor)

    async def _listed(self, run_id: str, live: Mapping[str, Run]) -> Run | None:
        """A run of a page, None if its record was removed meanwhile."""
        try:
            return live.get(run_id) or await self.workers.run(self.records.find, run_id)
        except NotFoundError:
            return None

    async def _require_datasets(self, dataset_ids: Sequence[str]) -> None:
        unique = list(dict.fromkeys(dataset_ids))
        faults = dict(zip(unique, await asyncio.gather(*map(self._fault_of_dataset, unique)), strict=True))
        problems = [
            Problem(f"input_dataset_ids[{index}]", f"{fault.message:.300}")
            for index, dataset_id in enumerate(dataset_ids)
            if (fault := faults[dataset_id]) is not None
        ]
        if problems:
            kinds = {type(fault) for fault in faults.values() if fault is not None}
            kind = ExpiredError if kinds == {ExpiredError} else DatasetNotFoundError
            raise kind("Input datasets are missing; upload them first.", problems=problems)

    async def _fault_of_dataset(self, dataset_id: str) -> NotFoundError | None:
        """Why a dataset cannot be an input."""
        try:
            await self.workers.run(self.datasets.require, dataset_id)
        except NotFoundError as fault:
            return fault
        return None


def _blob_key(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidRequestError(f"{sha256!r:.80} is no SHA-256 in lower-case hexadecimal digits.")
    return f"blobs/{sha256}"
