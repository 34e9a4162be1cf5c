"""The real app on a port of this machine, over a store in memory and a scheduler without Ray."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from t3d_server.ids import new_id
from t3d_server.models import Run, RunStatus, utc_now
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.registry import Registry
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.timings import Timings
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.scheduler import RunScheduler
from tests.api.local import Catalog, LocalPublishing, SwitchedStore, ThreadReplicas, write_history

MAX_DATASET_BYTES = 128 * 1024**2
MAX_BLOB_BYTES = 1024**2
MAX_RUN_S = 60.0
KEEP_S = 86_400.0
ORIGIN = "https://viewer.example.org"
MAX_QUEUED = 20
EXPIRED = "019012d5-0000-7000-8000-000000000000"
"""Id of a run of June 2024 that is still stored."""
TIMINGS = Timings(store_retry_s=0.05, cancel_s=0.5)
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


@dataclass
class Server:
    """A running server.

    Attributes:
        url: base URL.
        store: its store.
        service: its operations.
        scratch: its folder for request bodies.
        old_run: a run that had ended before the server began; the other one has expired.
    """

    url: str
    store: SwitchedStore
    service: Service
    scratch: Path
    old_run: Run

    def request(self, method: str, path: str, token: str | None = "an-admin", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return requests.request(method, self.url + path, headers=headers, timeout=100, **options)

    def client(self, token: str = "an-admin") -> Client:
        return Client(self.url, token, timeout_s=100)


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


async def _nothing() -> None:
    pass


@contextmanager
def _serving(app: FastAPI, start: Callable[[], Awaitable[None]] = _nothing) -> Iterator[str]:
    """Serve an app from a thread, after `start` on its event loop; gives its URL."""
    started = threading.Event()

    class Serving(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await start()
            await super().startup(sockets)
            started.set()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uvicorn_server = Serving(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=uvicorn_server.run, args=([listener],))
        thread.start()
        assert started.wait(60)
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
    registry = Registry(store)
    registry.publish(store_package(store, build(write_files(folder / "probe", PROBE), tags=load_tags(None))))
    old_run = Run(
        id=new_id(),
        algorithm="gone",
        version="1.0.0",
        resolved_device="cpu",
        status=RunStatus.COMPLETED,
        input_dataset_ids=[],
        created_at=utc_now(),
    )
    write_history(store, old_run, old_run.model_copy(update={"id": EXPIRED}))
    history = RunHistory(store, keep_s=KEEP_S)
    replicas = ThreadReplicas(store, datasets, folder / "cache")
    runs = replicas.runs = RunScheduler(
        history,
        datasets,
        cluster="cluster",
        catalog=Catalog(registry),
        replicas=replicas,
        devices=lambda: ["cpu"],
        slots=lambda manifest, device: 2,
        limits=RunLimits(
            max_run_s=MAX_RUN_S, cancel_grace_s=60, max_queued=MAX_QUEUED, max_queued_per_algorithm=MAX_QUEUED
        ),
        timings=TIMINGS,
    )
    service = Service(
        datasets=datasets,
        registry=registry,
        history=history,
        store=store,
        runs=runs,
        publishing=LocalPublishing(runs, registry, store, folder),
        scratch=scratch,
        limits=Limits(max_dataset_bytes=MAX_DATASET_BYTES, max_blob_bytes=MAX_BLOB_BYTES, max_run_s=MAX_RUN_S),
    )
    app = create_app(service, {"a-user": Role.USE, "an-admin": Role.ADMIN}, cors_origins=[ORIGIN])
    with _serving(app, runs.start) as url:
        yield Server(url, store, service, scratch, old_run)


@pytest.fixture(autouse=True)
def _store_is_up_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        store = request.getfixturevalue("server").store
        store.down = store.breaks = False
