"""Where the local server is and which token it takes: files in the state directory, shared by server and clients.

A lock says whether a server is there: it ends with the process that holds it, whatever becomes of the files.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_state_path

from t3d_server.errors import InvalidRequestError, ServerUnavailableError

_SERVER = "server.json"
_LOCK = "server.lock"
_LOCK_TIMEOUT_S = 0.5  # who only looks whether there is a server holds the lock for an instant
_POLL_S = 0.02
_TOKEN = "token"  # noqa: S105  # the name of a file


@dataclass(frozen=True)
class ServerState:
    """A server that runs on this machine.

    Attributes:
        url: base URL of its HTTP API.
        dashboard_url: URL of the Ray dashboard.
        ray_address: `host:port` by which programs on this machine join its Ray cluster.
        pid: its process: SIGTERM stops the server.
    """

    url: str
    dashboard_url: str
    ray_address: str
    pid: int


def state_directory() -> Path:
    """Folder of the local server's state: `T3D_STATE_DIR`, else the user's state folder for `t3d`."""
    given = os.environ.get("T3D_STATE_DIR")
    return Path(given) if given else user_state_path("t3d")


def read_server() -> ServerState | None:
    """The local server, None where none runs; a file that a dead server left behind counts as none."""
    try:
        state = ServerState(**json.loads((state_directory() / _SERVER).read_text("utf-8")))
        with (state_directory() / _LOCK).open("rb") as lock:
            return None if _try_lock(lock.fileno(), fcntl.LOCK_SH) else state
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


@contextmanager
def sole_server() -> Iterator[None]:
    """Be the one server of the state directory; what `write_server` wrote goes when the context is left.

    Raises:
        InvalidRequestError: another process is.
    """
    directory = state_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / _LOCK).open("ab") as lock:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(lock.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise InvalidRequestError(
                    f"another server is running, starting or stopping with the state directory {directory}: "
                    "use that one, or set T3D_STATE_DIR to another folder"
                )
            time.sleep(_POLL_S)
        try:
            _remove_server()  # left by one that was killed
            yield
        finally:
            _remove_server()


def write_server(state: ServerState) -> None:
    """Tell clients on this machine where the server is; for the `sole_server`."""
    _write(state_directory() / _SERVER, json.dumps(asdict(state), indent=2))


def _remove_server() -> None:
    (state_directory() / _SERVER).unlink(missing_ok=True)


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_token() -> str | None:
    """The local server's admin token, None where none was made yet.

    Raises:
        ServerUnavailableError: the token belongs to another user.
    """
    path = state_directory() / _TOKEN
    try:
        return path.read_text("ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ServerUnavailableError(
            f"{path} cannot be read: the server was started by another user. Ask for a token and set T3D_TOKEN."
        ) from error


def ensure_token() -> str:
    """The local server's admin token, made if there is none yet; of several processes one makes it."""
    path = state_directory() / _TOKEN
    if not read_token():
        _write(path, secrets.token_urlsafe(32), replace=False)
    token = read_token()
    if token is None:  # an empty file, left by a full disk
        raise ServerUnavailableError(f"{path} is empty; delete it and start the server again.")
    return token


def _write(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file that only this user can read; readers see all of it or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)  # mode 600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        if replace:
            Path(name).replace(path)
        else:
            with suppress(FileExistsError):
                path.hardlink_to(name)
    finally:
        Path(name).unlink(missing_ok=True)
