"""Where clients find the local server."""

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from t3d_server import discovery
from t3d_server.client import Client
from t3d_server.discovery import ServerState
from t3d_server.errors import InvalidRequestError, ServerUnavailableError


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
    written = ServerState("http://127.0.0.1:8000", "http://127.0.0.1:8265", "127.0.0.1:6379", os.getpid())
    with discovery.sole_server():
        assert discovery.read_server() is None
        discovery.write_server(written)
        assert discovery.read_server() == written
        assert mode(state / "server.json") == 0o600
    assert not (state / "server.json").exists()
    assert discovery.read_server() is None


SERVES = """
import os
from t3d_server import discovery
with discovery.sole_server():
    discovery.write_server(discovery.ServerState("http://127.0.0.1:1", "", "", os.getppid()))
    print("serving", flush=True)
    input()
"""


def test_a_killed_server_counts_as_none_even_if_its_process_id_is_in_use_again(state: Path) -> None:
    """It can tell nobody that it is gone, and what it wrote names a living process: this one."""
    with subprocess.Popen([sys.executable, "-c", SERVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"serving\n"
        found = discovery.read_server()
        assert found is not None
        server.kill()
    assert found.pid == os.getpid()
    assert (state / "server.json").exists()
    assert discovery.read_server() is None


def test_of_two_servers_in_one_folder_the_second_is_refused_and_leaves_the_first_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"serving\n"
        found = discovery.read_server()
        with pytest.raises(InvalidRequestError, match="T3D_STATE_DIR"), discovery.sole_server():
            pass
        assert discovery.read_server() == found is not None
        server.communicate(b"\n")
    with discovery.sole_server():
        assert discovery.read_server() is None


def test_looking_for_a_server_keeps_none_from_starting() -> None:
    """Who looks takes the lock for an instant."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            discovery.read_server()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(look)
        try:
            for _ in range(20):
                with discovery.sole_server():
                    discovery.write_server(ServerState("", "", "", 0))
        finally:
            stop.set()


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
    with discovery.sole_server():
        discovery.write_server(ServerState("http://127.0.0.1:1", "", "", os.getpid()))
        with Client() as client, pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1.*t3d up"):
            client.server()
