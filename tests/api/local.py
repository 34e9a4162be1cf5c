"""The parts of a server without Ray and without a bucket: a store in memory, and a coordinator in this process."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.models import (
    AlgorithmInfo,
    AlgorithmVersion,
    Device,
    LogLine,
    Publication,
    PublishRequest,
    Run,
    RunNews,
    RunRequest,
)
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.folder import materialise
from t3d_server.packages.loader import fetch_package
from t3d_server.packages.registry import Registry
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.coordinator import Coordinator
from t3d_server.runs.executor import LoadedAlgorithm, Outcome, execute, load
from t3d_server.runs.lanes import Lane
from t3d_server.storage.base import ObjectStat
from t3d_server.storage.memory import MemoryObjectStore


class SwitchedStore(MemoryObjectStore):
    """A store that can be switched off, and that can break off while it is read.

    Attributes:
        down: every call fails.
        breaks: reading fails after the first chunk.
    """

    down = False
    breaks = False

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailableError("The store does not answer.")

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        self._check()
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        self._check()
        chunks = super().get(key, offset=offset, length=length)
        return self._broken(chunks) if self.breaks else chunks

    def _broken(self, chunks: Generator[bytes]) -> Generator[bytes]:
        yield next(chunks)
        raise StoreUnavailableError("The store broke off.")

    def stat(self, key: str) -> ObjectStat:
        self._check()
        return super().stat(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        self._check()
        return super().list(prefix, start_after=start_after)

    def delete(self, key: str) -> None:
        self._check()
        super().delete(key)


@dataclass
class Listening:
    """Brings the news of a run to the coordinator's event loop, from the thread that it runs in."""

    report: Callable[[float | None, list[LogLine]], bool]

    def log(self, line: LogLine) -> None:
        self.report(None, [line])

    def progress(self, fraction: float) -> None:
        self.report(fraction, [])

    def cancelled(self) -> bool:
        return not self.report(None, [])


class Catalog:
    """The registry as the coordinator sees it."""

    def __init__(self, registry: Registry) -> None:
        self.find = registry.find

    async def refresh(self) -> None:
        pass


class ThreadDispatcher:
    """Executes attempts in threads of this process."""

    def __init__(self, store: MemoryObjectStore, datasets: DatasetStore, cache: Path) -> None:
        self.coordinator: Coordinator
        self._registry = Registry(store)
        self._datasets = datasets
        self._load = functools.cache(functools.partial(self._loaded, store, cache))

    async def work(self, lane: Lane, call_id: str) -> None:
        run = self.coordinator.begin(call_id, "thread")
        while run is not None:
            attempt = AttemptKey(run.id, run.attempts, "thread")
            outcome = await self._attempt(lane, run, attempt)
            run = (await self.coordinator.finish(call_id, attempt, outcome, [])).following

    async def obstacle(self, lane: Lane) -> str | None:
        return None

    async def shortage(self, lane: Lane) -> str | None:
        return None

    async def is_gone(self, replica: str) -> bool:
        return False

    async def kill(self, replica: str) -> None:
        raise NotImplementedError

    async def _attempt(self, lane: Lane, run: Run, attempt: AttemptKey) -> Outcome:
        loop = asyncio.get_running_loop()

        async def report(progress: float | None, lines: list[LogLine]) -> bool:
            return self.coordinator.report(attempt, progress, lines).go_on

        listener = Listening(lambda *news: asyncio.run_coroutine_threadsafe(report(*news), loop).result())
        algorithm = await asyncio.to_thread(self._load, lane.algorithm, lane.version)
        return await asyncio.to_thread(execute, algorithm, run, self._datasets, listener)

    def _loaded(self, store: MemoryObjectStore, cache: Path, name: str, version: str) -> LoadedAlgorithm:
        found = self._registry.find(name, version)
        return load(fetch_package(store, found, cache), found.manifest, "cpu", lambda line: None)


@dataclass
class LocalCoordinator:
    """The coordinator, and publishing, in this process."""

    runs: Coordinator
    registry: Registry
    store: MemoryObjectStore
    folder: Path
    publications: dict[str, asyncio.Task[AlgorithmVersion]] = field(default_factory=dict)
    started: asyncio.Future[None] | None = None

    async def submit(self, algorithm: str, request: RunRequest, key: str | None, run_id: str | None = None) -> Run:
        self.started = self.started or asyncio.ensure_future(self.runs.recover())
        await self.started
        return await self.runs.submit(algorithm, request, run_id or new_id(), key)

    async def get(self, run_id: str, wait_s: float) -> Run:
        return await self.runs.get(run_id, wait_s)

    async def cancel(self, run_id: str) -> Run:
        return await self.runs.cancel(run_id)

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        return await self.runs.news(run_id, seen, after, wait_s)

    async def log(self, run_id: str) -> list[LogLine]:
        return self.runs.log(run_id)

    async def live_runs(self) -> list[Run]:
        return self.runs.live_runs()

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        key = request.model_dump_json()
        task = self.publications.setdefault(key, asyncio.ensure_future(asyncio.to_thread(self._publish, request)))
        await asyncio.wait([task], timeout=wait_s)
        if not task.done():
            return Publication(stage="loading")
        del self.publications[key]
        return Publication(stage="published", version=task.result())

    def _publish(self, request: PublishRequest) -> AlgorithmVersion:
        folder = self.folder / f"publish-{time.monotonic_ns()}"
        materialise(self.store, request.files, folder)
        version = store_package(self.store, build(folder, tags=load_tags(None)))
        self.registry.existing(version)
        load(fetch_package(self.store, version, self.folder / "cache"), version.manifest, "cpu", lambda line: None)
        return self.registry.publish(version)

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        await asyncio.to_thread(self.registry.set_current, name, version)
        return self.registry.info(name)

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        await self.runs.drain(name, version, cancel=cancel_runs)
        await asyncio.to_thread(self.registry.remove, name, version)
        self.runs.reopen(name, version)

    async def devices(self) -> list[Device]:
        return ["cpu"]
