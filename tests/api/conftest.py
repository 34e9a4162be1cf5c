"""The real app on a port of this machine, over a store in memory and a coordinator without Ray."""

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import requests
import uvicorn
from fastapi import FastAPI

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.api.app import create_app
from t3d_server.api.auth import Role
from t3d_server.api.service import Limits, Service
from t3d_server.client import Client
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
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.coordinator import Coordinator
from t3d_server.runs.executor import LoadedAlgorithm, Outcome, execute, load
from t3d_server.runs.lanes import Lane
from t3d_server.runs.ownership import Ownership
from t3d_server.runs.records import RunRecords
from t3d_server.storage.base import ObjectStat
from t3d_server.storage.memory import MemoryObjectStore

MAX_DATASET_BYTES = 128 * 1024**2
MAX_BLOB_BYTES = 1024**2
MAX_RUN_S = 60.0
KEEP_S = 86_400.0
ORIGIN = "https://viewer.example.org"
MAX_QUEUED = 20
PROBE = {
    "pyproject.toml": """
[project]
name = "probe"
version = "1.0.0"

[tool.t3dserver]
tags = ["image-denoising"]
algorithm_type = "Image2Image"
supported_devices = ["cpu"]

[[tool.t3dserver.additional_parameters]]
name = "mode"
description = "What to do."
config = {type = "string_enum", default = "add", options = ["add", "fail", "forever"]}

[[tool.t3dserver.additional_parameters]]
name = "amount"
description = "Added to each pixel."
config = {type = "int_range", default = 1, min = 0, max = 10}

[[tool.t3dserver.additional_parameters]]
name = "weight"
description = "Of nothing."
config = {type = "float", default = 1.0}
""",
    "Runner.py": """
import time

from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        self.log_message(f"mode {args['mode']}")
        if args["mode"] == "fail":
            raise ValueError("the image is too green")
        while args["mode"] == "forever":
            self.set_progress(0.25)
            time.sleep(0.005)
        return data + args["amount"]
""",
}
"""An algorithm that adds, fails, or goes on until it is cancelled."""


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

    async def is_gone(self, replica: str) -> bool:
        return False

    async def kill(self, replica: str) -> None:
        raise NotImplementedError

    async def _attempt(self, lane: Lane, run: Run, attempt: AttemptKey) -> Outcome:
        loop = asyncio.get_running_loop()

        async def report(progress: float | None, lines: list[LogLine]) -> bool:
            return self.coordinator.report(attempt, progress, lines)

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

    async def submit(self, algorithm: str, request: RunRequest, key: str | None) -> Run:
        self.started = self.started or asyncio.ensure_future(self.runs.recover())
        await self.started
        return await self.runs.submit(algorithm, request, new_id(), key)

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


@dataclass
class Server:
    """A running server.

    Attributes:
        url: base URL.
        store: its store.
        service: its operations.
        scratch: its folder for request bodies.
    """

    url: str
    store: SwitchedStore
    service: Service
    scratch: Path

    def request(self, method: str, path: str, token: str | None = "an-admin", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return requests.request(method, self.url + path, headers=headers, timeout=20, **options)

    def client(self, token: str = "an-admin") -> Client:
        return Client(self.url, token, timeout_s=20)


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@contextmanager
def _serving(app: FastAPI) -> Iterator[str]:
    """Serve an app from a thread; gives its URL."""
    started = threading.Event()

    class Serving(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uvicorn_server = Serving(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=uvicorn_server.run, args=([listener],))
        thread.start()
        assert started.wait(20)
        try:
            yield "http://{}:{}".format(*listener.getsockname())
        finally:
            uvicorn_server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serving() -> Callable[[FastAPI], AbstractContextManager[str]]:
    """Serves an app from a thread: `with serving(app) as url`."""
    return _serving


@pytest.fixture(scope="session")
def probe_files() -> dict[str, str]:
    """The files of the algorithm `probe`."""
    return dict(PROBE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has the algorithm `probe`, with a token of each role."""
    folder = tmp_path_factory.mktemp("server")
    store = SwitchedStore()
    scratch = folder / "scratch"
    datasets = DatasetStore(store, scratch=scratch, max_dataset_bytes=MAX_DATASET_BYTES, keep_s=KEEP_S)
    registry, records = Registry(store), RunRecords(store, keep_s=KEEP_S)
    registry.publish(store_package(store, build(write_files(folder / "probe", PROBE), tags=load_tags(None))))
    dispatcher = ThreadDispatcher(store, datasets, folder / "cache")
    dispatcher.coordinator = Coordinator(
        records,
        datasets,
        Ownership(store, "cluster"),
        Catalog(registry),
        dispatcher,
        lambda: ["cpu"],
        lambda manifest, device: 2,
        RunLimits(max_run_s=MAX_RUN_S, cancel_grace_s=20, max_queued=MAX_QUEUED, max_queued_per_algorithm=MAX_QUEUED),
    )
    coordinator = LocalCoordinator(dispatcher.coordinator, registry, store, folder)
    limits = Limits(max_dataset_bytes=MAX_DATASET_BYTES, max_blob_bytes=MAX_BLOB_BYTES, max_run_s=MAX_RUN_S)
    service = Service(datasets, registry, records, store, coordinator, scratch, limits)
    app = create_app(service, {"a-user": Role.USE, "an-admin": Role.ADMIN}, cors_origins=[ORIGIN])
    with _serving(app) as url:
        yield Server(url, store, service, scratch)


@pytest.fixture(autouse=True)
def _store_is_up_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        store = request.getfixturevalue("server").store
        store.down = store.breaks = False
