"""Where the local server is and which token it takes: files in the state directory, shared by server and clients."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_state_path

from t3d_server.errors import ServerUnavailableError

_SERVER = "server.json"
_TOKEN = "token"  # noqa: S105  # the name of a file


@dataclass(frozen=True)
class ServerState:
    """A server that runs on this machine.

    Attributes:
        url: base URL of its HTTP API.
        dashboard_url: URL of the Ray dashboard.
        pid: the process that stands for the server: when it is gone, so is the server.
        pids: every process that stopping the server has to end.
    """

    url: str
    dashboard_url: str
    pid: int
    pids: Sequence[int] = ()


def state_directory() -> Path:
    """Folder of the local server's state: `T3D_STATE_DIR`, else the user's state folder for `t3d`."""
    given = os.environ.get("T3D_STATE_DIR")
    return Path(given) if given else user_state_path("t3d")


def read_server() -> ServerState | None:
    """The local server, None where none runs; a file that a dead server left behind counts as none."""
    try:
        state = ServerState(**json.loads((state_directory() / _SERVER).read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    return state if _is_alive(state.pid) else None


def write_server(state: ServerState) -> None:
    """Tell clients on this machine where the server is."""
    _write(state_directory() / _SERVER, json.dumps(asdict(state), indent=2))


def remove_server() -> None:
    """Tell clients on this machine that there is no server any more."""
    (state_directory() / _SERVER).unlink(missing_ok=True)


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


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and another user's
        return True
    return True
