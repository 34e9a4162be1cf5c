"""Fixtures of the whole suite: one embedded object store, one real server on it, and what tests publish there."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, settings

from t3d_server.client import Client
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.folder import scan
from t3d_server.serving import reaper
from t3d_server.serving.haproxy import free_ports
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3Location, S3ObjectStore

# A shell that runs the suite in the background has it ignore Ctrl-C, which every process it starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, however long they take; `--hypothesis-profile=default` looks for others.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# A busy machine takes long, and a test that fails for that tells nothing.
START_TIMEOUT_S = STOP_TIMEOUT_S = 200.0
IDLE_S = 5
USE_TOKEN = "use-token-of-the-suite"
RUNNER = """
from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        return data
"""


ONLY_IF_ASKED = ("chaos", "juicefs")
"""Markers of tests that take long, or need what is not there everywhere: `pytest -m chaos`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests out that nobody has asked for; and the suite has one server, in one of its processes."""
    asked = config.getoption("markexpr")
    markers = [marker for marker in ONLY_IF_ASKED if marker not in asked]
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in markers)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if "server_store" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("server"))


class Server:
    """A `t3d up` of its own.

    Args:
        state_dir: its state directory, which also tells its processes from others.
        options: further settings, `T3D_*`.

    Attributes:
        state_dir: its state directory.
        command: the installed `t3d`.
        environment: in which the `t3d` command and clients find it.
        process: the process of `t3d up`.
    """

    def __init__(self, state_dir: Path, options: Mapping[str, str]) -> None:
        self.state_dir = state_dir
        self.command = str(Path(sys.executable).with_name("t3d"))
        port, dashboard_port, v0_port = own_ports(3)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("T3D_", "RAY_"))},
            "T3D_STATE_DIR": str(state_dir),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray takes the one in the user's home
        }
        self._environment = {
            **self.environment,
            "T3D_PORT": str(port),
            "T3D_DASHBOARD_PORT": str(dashboard_port),
            "T3D_V0_PORT": str(v0_port),
            "T3D_NUM_CPUS": "8",
            "T3D_NUM_GPUS": "1",
            "T3D_IDLE_S": str(IDLE_S),
            **options,
        }
        self.port = int(self._environment["T3D_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.v0_url = f"http://127.0.0.1:{v0_port}"
        self.dashboard_url = f"http://127.0.0.1:{dashboard_port}"
        self._lines: list[str] = []
        self._ended = False
        self._printed = threading.Condition()
        self.process = subprocess.Popen(
            [self.command, "up"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C of the suite is not for it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """What it has printed."""
        return "".join(self._lines)

    @property
    def token(self) -> str:
        """The admin token."""
        return (self.state_dir / "token").read_text().strip()

    def wait_until_ready(self) -> None:
        """Returns when it says that it is ready."""
        self.wait_for("t3d is ready")

    def wait_for(self, text: str) -> None:
        """Returns when it has printed this; fails with its output when it ends without, or takes too long."""
        with self._printed:
            self._printed.wait_for(lambda: self._ended or text in self.output, START_TIMEOUT_S)
        assert text in self.output, f"did not say {text!r}:\n{self.output}"

    def client(self, token: str | None = None) -> Client:
        """A client of it."""
        return Client(self.url, token or self.token)

    def applications(self) -> dict[str, Any]:
        """What Ray's dashboard tells of the Serve applications, by name."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        answer = requests.get(f"{self.dashboard_url}/api/serve/applications/", headers=headers, timeout=60)
        answer.raise_for_status()
        applications: dict[str, Any] = answer.json()["applications"]
        return applications

    def stop(self, number: signal.Signals = signal.SIGTERM, *, group: bool = False) -> int:
        """Send a signal, to its whole process group as a terminal does if `group`; returns the exit code."""
        if self.process.poll() is None:
            (os.killpg if group else os.kill)(self.process.pid, number)
        return self.wait()

    def wait(self) -> int:
        """Returns its exit code when it has ended, and `output` is all that it has printed."""
        code = self.process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        return code

    def processes(self) -> dict[int, str]:
        """Every process that was started for it: its command line by process id."""
        return processes_of(self.state_dir)

    def wait_until_gone(self) -> None:
        """Returns when none of its processes is left."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while left := self.processes():
            assert time.monotonic() < deadline, f"left behind: {left}\n{self.output}"
            time.sleep(0.05)  # there is no event for the end of other processes' children

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self._lines.append(line)
                self._printed.notify_all()
        with self._printed:
            self._ended = True
            self._printed.notify_all()


def processes_of(state_dir: Path) -> dict[int, str]:
    """Processes whose environment or command line names a state directory; zombies are none."""
    found = {}
    name = os.fsencode(str(state_dir))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if name in command or name in (folder / "environ").read_bytes():
                found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has just ended
            continue
    return {pid: command for pid, command in found.items() if command and pid != os.getpid()}


def own_ports(count: int) -> list[int]:
    """Free ports that no other process of the suite chooses, and no server by itself, before they are taken."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return free_ports(count, range(4000 + 500 * worker, 4500 + 500 * worker))


def store_options(location: S3Location) -> dict[str, str]:
    """Settings that name an object store."""
    return {
        "T3D_S3_ENDPOINT": location.endpoint,
        "T3D_S3_ACCESS_KEY": location.access_key,
        "T3D_S3_SECRET_KEY": location.secret_key,
        "T3D_S3_BUCKET": location.bucket,
        "T3D_S3_REGION": location.region,
        "T3D_S3_SECURE": str(location.secure),
    }


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A running embedded store; tests that break one start their own, those that stop it start it again."""
    with EmbeddedStore(tmp_path_factory.mktemp("store"), bucket=f"t3d-{uuid.uuid4().hex[:12]}") as store:
        yield store


@pytest.fixture(scope="session")
def s3_store(embedded_store: EmbeddedStore) -> S3ObjectStore:
    """A store on the session's bucket; use keys of your own, others use it too."""
    return S3ObjectStore(embedded_store.location)


@pytest.fixture(scope="session")
def start_server() -> Callable[..., AbstractContextManager[Server]]:
    """Starts a server: `start_server(state_dir, T3D_...="...")`; leaving the context kills what is left of it."""

    @contextmanager
    def start(state_dir: Path, **options: str) -> Iterator[Server]:
        server = Server(state_dir, options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()
            for pid in server.processes():
                reaper.kill(pid)

    return start


@pytest.fixture(scope="session")
def server_store(embedded_store: EmbeddedStore) -> S3ObjectStore:
    """What the suite's server keeps: a bucket of its own in the session's store."""
    store = S3ObjectStore(dataclasses.replace(embedded_store.location, bucket=f"server-{uuid.uuid4().hex[:12]}"))
    store.prepare()
    return store


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    start_server: Callable[..., AbstractContextManager[Server]],
    server_store: S3ObjectStore,
) -> Iterator[Server]:
    """The suite's server, with a GPU that is a mere number; stopping it leaves no process behind."""
    options = store_options(server_store.location)
    limits = {
        "T3D_TOKENS": f'{{"{USE_TOKEN}": "use"}}',
        "T3D_MAX_PACKAGE_BYTES": str(16 * 1024**2),
        "T3D_CANCEL_GRACE_S": "4",
        "T3D_CORS_ORIGINS": "https://viewer.example.org",
    }
    with start_server(tmp_path_factory.mktemp("server"), **options, **limits) as running:
        running.wait_until_ready()
        yield running
        assert running.stop() == 0, running.output
        running.wait_until_gone()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    """An admin's client of the suite's server."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def probe_files() -> dict[str, Path]:
    """The files of `probe`."""
    return scan(Path(__file__).parent / "packages" / "probe")[0]


@pytest.fixture(scope="session")
def probe(client: Client, probe_files: dict[str, Path]) -> AlgorithmVersion:
    """The published `probe`, whose arg `mode` says what it does; one replica of each device is kept warm."""
    return client.publish(probe_files)


@pytest.fixture(scope="session")
def write_algorithm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an algorithm folder; `table` is what stands under `[tool.t3dserver]`."""

    def write(
        name: str, runner: str = RUNNER, *, version: str = "1.0.0", table: str = "", files: dict[str, str] | None = None
    ) -> Path:
        folder = tmp_path_factory.mktemp("algorithm") / name
        manifest = f'[project]\nname = "{name}"\nversion = "{version}"\n\n[tool.t3dserver]\n{table}\n'
        for path, text in {"Runner.py": runner, "pyproject.toml": manifest, **(files or {})}.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return folder

    return write
