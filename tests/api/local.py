"""The parts of a server without Ray and without a bucket: a store in memory, and replicas that are threads."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import StoreUnavailableError
from t3d_server.execution.executor import LoadedAlgorithm, load
from t3d_server.execution.worker import Worker
from t3d_server.models import AlgorithmInfo, AlgorithmVersion, Device, Publication, PublishRequest, Run
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.fetch import fetch_package
from t3d_server.packages.folder import materialise
from t3d_server.packages.registry import Registry
from t3d_server.run_store.pages import write_page
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.state import State
from t3d_server.runs.interface import QueueName
from t3d_server.runs.scheduler import RunScheduler
from t3d_server.storage.base import ObjectStat, ObjectStore
from t3d_server.storage.keys import snapshot_key
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

    def delete(self, *keys: str) -> None:
        self._check()
        super().delete(*keys)


def write_history(store: ObjectStore, *runs: Run) -> None:
    """Store ended runs as those of long ago are: in a page; before there is a log."""
    page = write_page(store, [StoredRun(run=run) for run in runs])
    store.put(snapshot_key(0), State(pages={page.name: page}).dump())


class Catalog:
    """The registry as the scheduler sees it."""

    def __init__(self, registry: Registry) -> None:
        self.find = registry.find

    async def refresh(self) -> None:
        pass


class ThreadReplicas:
    """Has threads of this process work on runs.

    Attributes:
        runs: the scheduler that calls them.
    """

    def __init__(self, store: MemoryObjectStore, datasets: DatasetStore, cache: Path) -> None:
        self.runs: RunScheduler
        self._registry = Registry(store)
        self._datasets = datasets
        self._threads = ThreadPoolExecutor(thread_name_prefix="replica")
        self._load = functools.cache(functools.partial(self._loaded, store, cache))

    async def work(self, queue: QueueName, call_id: str) -> None:
        loop = asyncio.get_running_loop()

        def wait(work: Coroutine[Any, Any, None], timeout_s: float) -> None:
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)

        worker = Worker(
            self.runs,
            "thread",
            await asyncio.to_thread(self._load, queue.algorithm, queue.version),
            self._datasets,
            executor=self._threads,
            clock=SYSTEM_CLOCK,
            wait=wait,
            load_log=deque(),
        )
        await worker.work(call_id)

    async def obstacle(self, queue: QueueName) -> str | None:
        return None

    async def shortage(self, queue: QueueName) -> str | None:
        return None

    async def is_gone(self, replica: str) -> bool:
        return False

    async def kill(self, replica: str) -> None:
        raise NotImplementedError

    def _loaded(self, store: MemoryObjectStore, cache: Path, name: str, version: str) -> LoadedAlgorithm:
        found = self._registry.find(name, version)
        return load(fetch_package(store, found, cache), found.manifest, "cpu", lambda line: None)


@dataclass
class LocalPublishing:
    """Publishing in this process."""

    runs: RunScheduler
    registry: Registry
    store: MemoryObjectStore
    folder: Path
    publications: dict[str, asyncio.Task[AlgorithmVersion]] = field(default_factory=dict)

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
