"""Where clients find the local server."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from t3d_server import discovery
from t3d_server.client import Client
from t3d_server.discovery import ServerState
from t3d_server.errors import ServerUnavailableError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("T3D_STATE_DIR", str(folder))
    monkeypatch.delenv("T3D_URL", raising=False)
    monkeypatch.delenv("T3D_TOKEN", raising=False)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_server_is_read_and_only_its_user_can_read_it(state: Path) -> None:
    written = ServerState("http://127.0.0.1:8000", "http://127.0.0.1:8265", os.getpid(), [1, 2])
    discovery.write_server(written)
    assert discovery.read_server() == written
    assert mode(state / "server.json") == 0o600
    discovery.remove_server()
    discovery.remove_server()
    assert discovery.read_server() is None


def test_a_server_whose_process_is_gone_counts_as_none() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    discovery.write_server(ServerState("http://127.0.0.1:8000", "", gone.pid))
    assert discovery.read_server() is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"url": 1}', '"text"'])
def test_a_damaged_file_counts_as_no_server(state: Path, content: str) -> None:
    state.mkdir()
    (state / "server.json").write_text(content)
    assert discovery.read_server() is None


def test_the_token_is_made_once(state: Path) -> None:
    assert discovery.read_token() is None
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: discovery.ensure_token(), range(16)))
    assert tokens == {discovery.read_token()}
    assert len(tokens.pop()) >= 43
    assert mode(state / "token") == 0o600
    assert [path.name for path in state.iterdir()] == ["token"]


def test_a_client_without_any_server_says_how_to_start_one() -> None:
    with pytest.raises(ServerUnavailableError, match="t3d up"):
        Client()


def test_a_client_finds_the_local_server() -> None:
    discovery.write_server(ServerState("http://127.0.0.1:1", "", os.getpid()))
    with Client() as client, pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1.*t3d up"):
        client.server()
