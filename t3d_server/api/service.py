"""The operations behind the HTTP routes and behind the router's handle; knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from t3d_server import __version__
from t3d_server.api.bodies import Draft
from t3d_server.api.feeds import Feeds
from t3d_server.api.listing import RunPage, list_runs
from t3d_server.api.ports import Publishing
from t3d_server.api.submission import check_key, require_inputs
from t3d_server.api.workers import Workers
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import (
    Faults,
    InvalidRequestError,
    RunNotFoundError,
    ServerUnavailableError,
    StoreUnavailableError,
)
from t3d_server.ids import new_id
from t3d_server.models import (
    AlgorithmInfo,
    AlgorithmVersion,
    DatasetInfo,
    Device,
    LogLine,
    Publication,
    PublishRequest,
    Run,
    RunStatus,
    ServerInfo,
)
from t3d_server.packages.folder import find_file, store_blob
from t3d_server.packages.parameters import args_schema
from t3d_server.packages.registry import Registry
from t3d_server.run_store.history import RunHistory
from t3d_server.runs.acceptance import accept
from t3d_server.runs.interface import Runs
from t3d_server.storage.base import ObjectStore, exists

logger = logging.getLogger(__name__)

MAX_WAIT_S = 60.0
READY_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Attributes:
        max_dataset_bytes: largest upload.
        max_blob_bytes: largest file of an algorithm folder.
        max_run_s: longest time an attempt at a run may take.
    """

    max_dataset_bytes: int
    max_blob_bytes: int
    max_run_s: float


@dataclass(frozen=True)
class Service:
    """The operations, on plain parts.

    Attributes:
        datasets: the datasets.
        registry: the published algorithms.
        history: the ended runs.
        store: where blobs are kept.
        runs: the runs that are open or have ended lately.
        publishing: publishes and removes versions.
        scratch: folder for request bodies; best on the file system that `datasets` uses.
        limits: limits of requests.
        workers: threads for all that blocks.
    """

    datasets: DatasetStore
    registry: Registry
    history: RunHistory
    store: ObjectStore
    runs: Runs
    publishing: Publishing
    scratch: Path
    limits: Limits
    workers: Workers = field(default_factory=Workers)

    @cached_property
    def feeds(self) -> Feeds:
        """Follows runs."""
        return Feeds(self.runs, self.history, self.workers)

    async def server(self) -> ServerInfo:
        """The server and its limits."""
        return ServerInfo(
            name="t3d_server",
            version=__version__,
            devices=await self.publishing.devices(),
            limits={
                "max_dataset_bytes": self.limits.max_dataset_bytes,
                "max_blob_bytes": self.limits.max_blob_bytes,
                "max_run_s": self.limits.max_run_s,
                "max_wait_s": MAX_WAIT_S,
            },
        )

    async def ready(self) -> None:
        """Check that store and coordinator answer.

        Raises:
            StoreUnavailableError: the store does not; names no endpoint, since no token is needed.
            ServerUnavailableError: one of them did not answer in time.
        """
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self.workers.run(exists, self.store, "probes/readyz")
                await self.publishing.devices()
        except StoreUnavailableError as error:
            logger.warning("not ready: %s", error)
            raise StoreUnavailableError("The object store does not answer; the server's log has the reason.") from error
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
        """Values of a dataset; see `DatasetStore.read`.

        Raises:
            InvalidRequestError: a key is not there; it names those there are.
        """
        values = await self.workers.run(self.datasets.read, dataset_id, keys)
        missing = ", ".join(repr(key) for key, value in values.items() if value is None)
        if missing:
            info = await self.info(dataset_id)
            there = ", ".join([*info.arrays, *info.values])
            raise InvalidRequestError(f"dataset {dataset_id} has no {missing}; its keys: {there}")
        return values

    async def info(self, dataset_id: str) -> DatasetInfo:
        """What a dataset holds."""
        return await self.workers.run(self.datasets.info, dataset_id)

    async def size_bytes(self, dataset_id: str) -> int:
        """Size of a dataset's file."""
        return await self.workers.run(self.datasets.size, dataset_id)

    async def file(self, dataset_id: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """A dataset's file or a range of it, opened when this returns."""
        return self.workers.iterate(await self.workers.run(self.datasets.open, dataset_id, offset, length))

    async def array_size_bytes(self, dataset_id: str, name: str, media_type: str) -> int | None:
        """Size of one array of a dataset in another format; see `DatasetStore.array_size`."""
        return await self.workers.run(self.datasets.array_size, dataset_id, name, media_type)

    async def array(self, dataset_id: str, name: str, media_type: str) -> tuple[int, AsyncGenerator[bytes]]:
        """One array of a dataset in another format, and its size in bytes; see `DatasetStore.open_array`."""
        size_bytes, chunks = await self.workers.run(self.datasets.open_array, dataset_id, name, media_type)
        return size_bytes, self.workers.iterate(chunks)

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
        """Whether a file of an algorithm folder is stored, as a blob or as an asset of a version."""
        return await self.workers.run(find_file, self.store, sha256) is not None

    async def put_blob(self, sha256: str, source: Path) -> None:
        """Store a file of an algorithm folder.

        Raises:
            InvalidRequestError: the file has another hash, or that is none.
        """
        await self.workers.run(store_blob, self.store, sha256, source)

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish an algorithm folder, or wait for the publication of the same folder that goes on."""
        return await self.publishing.publish(request, wait_s)

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""
        return await self.publishing.use(name, version)

    async def remove(self, name: str, version: str, *, cancel_runs: bool) -> None:
        """Remove a version, after its runs have ended or were cancelled."""
        await self.publishing.remove(name, version, cancel_runs)

    async def submit(
        self,
        algorithm: str,
        draft: Draft,
        *,
        wait_s: float = 0.0,
        idempotency_key: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Accept a run, and wait up to `wait_s` for its end.

        Args:
            algorithm: what to run.
            draft: how.
            wait_s: longest time to wait, in seconds.
            idempotency_key: chosen by the caller; the same request with it again gives the same run.
            run_id: a new id, if the caller has to know it before this returns.

        Raises:
            InvalidRequestError: the draft has faults, the key cannot be one, or was used for another request; or
                there are several faults: the error lists all of them.
            DatasetNotFoundError, ExpiredError: naming every input dataset that is not there.
            T3dError: as `Runs.submit`.
        """
        faults = Faults()
        if draft.fault is not None:
            faults.add("body", draft.fault)
        with faults.at("Idempotency-Key"):
            check_key(idempotency_key)
        with faults.at("input_dataset_ids"):
            await require_inputs(self.datasets, self.workers, draft.request.input_dataset_ids)
        if faults:  # the coordinator, which would accept it, is not called; its checks are made here
            with faults.at("algorithm"):
                await self._check(algorithm, draft)
            faults.raise_if_any()
        # The id is made here: when Ray repeats the call after a crash of the coordinator, there is no second run.
        run = await self.runs.submit(
            algorithm=algorithm,
            request=draft.request,
            run_id=new_id() if run_id is None else run_id,
            key=idempotency_key,
        )
        return await self.run(run.id, wait_s) if wait_s > 0 else run

    async def run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run; if it is live, after waiting up to `wait_s` for its end.

        Raises:
            RunNotFoundError: there is none.
        """
        try:
            return await self.runs.get(run_id=run_id, wait_s=wait_s)
        except RunNotFoundError:
            return (await self.workers.run(self.history.find, run_id)).run

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run; one that has ended stays as it is.

        Raises:
            RunNotFoundError: there is none.
        """
        try:
            return await self.runs.cancel(run_id=run_id)
        except RunNotFoundError:
            return (await self.workers.run(self.history.find, run_id)).run

    async def log(self, run_id: str) -> list[LogLine]:
        """The log of a run, so far.

        Raises:
            RunNotFoundError: there is no such run.
        """
        try:
            return await self.runs.log(run_id=run_id)
        except RunNotFoundError:
            stored = await self.workers.run(self.history.find, run_id)
            return await self.workers.run(self.history.log, stored)

    async def list_runs(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        algorithm: str | None = None,
        status: RunStatus | None = None,
    ) -> RunPage:
        """Runs, newest first, live and ended ones; see `listing.list_runs`."""
        return await list_runs(
            self.runs, self.history, self.workers, limit=limit, cursor=cursor, algorithm=algorithm, status=status
        )

    async def _check(self, algorithm: str, draft: Draft) -> None:
        """Raise the error that the coordinator would raise."""
        manifest = (await self.version(algorithm, draft.request.version)).manifest
        if "input_dataset_ids" in draft.unread:  # then their number is not checked
            manifest = manifest.model_copy(update={"inputs": None})
        accept(manifest, draft.request, await self.publishing.devices(), "", self.limits.max_run_s)
