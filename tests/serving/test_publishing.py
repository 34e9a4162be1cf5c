"""Publishing on a real server: what is proven, what is refused, and what is left of it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from t3d_server.client import Client
from t3d_server.errors import (
    AlgorithmNotFoundError,
    ImportFailedError,
    InvalidPackageError,
    LoadFailedError,
    MissingBlobsError,
    PayloadTooLargeError,
    VersionConflictError,
)
from t3d_server.models import AlgorithmVersion
from t3d_server.storage.s3 import S3ObjectStore

if TYPE_CHECKING:
    from tests.conftest import Server

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)
HEAD = "from t3d_server.algorithm_utils import Image2ImageRunner\n"
BODY = "    def inference(self, data, args):\n        return data\n"
SOUND = f"{HEAD}class Runner(Image2ImageRunner):\n{BODY}"
LOAD_RAISES = f"""{HEAD}
class Runner(Image2ImageRunner):
    def load_assets(self):
        self.read_the_weights("files/model.bin")

    def read_the_weights(self, path_of_weights):
        loaded_weights = bytes(self.fetch_asset(path_of_weights))
        raise OSError("the weights are rotten: " + loaded_weights.decode())

{BODY}"""
LOAD_HANGS = f"""{HEAD}
import os, time
from pathlib import Path

class Runner(Image2ImageRunner):
    def load_assets(self):
        Path(os.environ["T3D_STATE_DIR"], "hanging").write_text(str(os.getpid()))
        time.sleep(3600)

{BODY}"""
LOAD_KILLS = f"""{HEAD}
import os, signal

class Runner(Image2ImageRunner):
    def load_assets(self):
        os.kill(os.getpid(), signal.SIGKILL)

{BODY}"""
LOAD_SPEAKS = f"""{HEAD}
class Runner(Image2ImageRunner):
    def load_assets(self):
        self.log_message("half of it")
        print("all of it")

{BODY}"""
IMPORT_RAISES = f"{HEAD}import helper\nclass Runner(Image2ImageRunner):\n{BODY}"
HELPER = "def set_up():\n    raise KeyError('no such thing')\nset_up()\n"

Publish = Callable[[Path], AlgorithmVersion]
Write = Callable[..., Path]


def assert_nothing_is_left(client: Client, server: Server, store: S3ObjectStore, name: str) -> None:
    with pytest.raises(AlgorithmNotFoundError):
        client.algorithm(name)
    assert not [stat.key for stat in store.list(f"algorithms/{name}/")]
    assert not [application for application in server.applications() if application.startswith(f"{name}-")]


def test_what_is_published_was_loaded_on_every_device(probe: AlgorithmVersion) -> None:
    assert probe.proven == ["cpu", "gpu"]
    assert probe.manifest.algorithm_type == "Image2Image"


def test_the_type_is_taken_from_the_class(cpu_only: AlgorithmVersion) -> None:
    """Where the manifest gives none."""
    assert cpu_only.manifest.algorithm_type == "Image2Image"
    assert cpu_only.proven == ["cpu"]


def test_blobs_are_gone_once_a_package_is_built(
    probe: AlgorithmVersion, probe_files: dict[str, Path], server_store: S3ObjectStore
) -> None:
    """They hold the unminified source."""
    kept = {stat.key for stat in server_store.list("blobs/")}

    assert not kept & {f"blobs/{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in probe_files.values()}


def test_equal_content_again_changes_nothing(client: Client, probe_files: dict[str, Path]) -> None:
    before = client.version("probe", "1.0.0")

    assert client.publish(probe_files) == before


def test_a_version_never_changes(write_algorithm: Write, publish: Publish, cpu_only: AlgorithmVersion) -> None:
    with pytest.raises(VersionConflictError, match="t3d deploy --bump patch"):
        publish(write_algorithm("cpu-only", SOUND + "\n# changed\n"))


@pytest.mark.parametrize("obfuscate", ["true", "false"])
def test_load_assets_that_raises_publishes_nothing(
    client: Client,
    server: Server,
    server_store: S3ObjectStore,
    write_algorithm: Write,
    publish: Publish,
    obfuscate: str,
) -> None:
    """The author sees the traceback in their own file and functions, minified or not."""
    name = f"rotten-{obfuscate}"
    folder = write_algorithm(name, LOAD_RAISES, table=f"obfuscate = {obfuscate}", files={"files/model.bin": "mouldy"})
    with pytest.raises(LoadFailedError, match="the weights are rotten: mouldy") as raised:
        publish(folder)

    assert raised.value.traceback is not None
    assert 'File "Runner.py", line ' in raised.value.traceback
    assert "in read_the_weights" in raised.value.traceback
    assert_nothing_is_left(client, server, server_store, name)


def test_load_assets_that_never_returns_is_given_up(
    client: Client, server: Server, server_store: S3ObjectStore, write_algorithm: Write, publish: Publish
) -> None:
    """After `load_timeout_s`; its process is gone."""
    with pytest.raises(LoadFailedError, match="load_assets did not return in 2 s"):
        publish(write_algorithm("hanging", LOAD_HANGS, table="load_timeout_s = 2"))

    assert_nothing_is_left(client, server, server_store, "hanging")
    pid = int((server.state_dir / "hanging").read_text())
    while pid in server.processes():
        time.sleep(0.05)  # there is no event for the end of other processes' children


def test_load_assets_that_ends_its_process_is_given_up(
    client: Client, server: Server, server_store: S3ObjectStore, write_algorithm: Write, publish: Publish
) -> None:
    """As one does that runs out of memory. Mended, the same version can be published; its first run tells the load."""
    with pytest.raises(LoadFailedError, match="could not be started on cpu: its process was killed"):
        publish(write_algorithm("deadly", LOAD_KILLS))

    assert_nothing_is_left(client, server, server_store, "deadly")
    assert publish(write_algorithm("deadly", LOAD_SPEAKS)).proven == ["cpu"]
    assert _log_of_run(client, "deadly") == ["loading: half of it", "loading: all of it"]
    assert _log_of_run(client, "deadly") == []


def _log_of_run(client: Client, algorithm: str) -> list[str]:
    handle = client.submit(algorithm, IMAGE)
    handle.result()
    return [line.message for line in handle.log()]


@pytest.mark.parametrize("check_importable", ["true", "false"])
def test_an_import_that_fails_publishes_nothing(
    client: Client,
    server: Server,
    server_store: S3ObjectStore,
    write_algorithm: Write,
    publish: Publish,
    check_importable: str,
) -> None:
    name = f"unimportable-{check_importable}"
    table = f"check_importable = {check_importable}"
    with pytest.raises(ImportFailedError, match="no such thing") as raised:
        publish(write_algorithm(name, IMPORT_RAISES, table=table, files={"helper.py": HELPER}))

    assert raised.value.traceback is not None
    assert 'File "Runner.py", line 2' in raised.value.traceback
    assert 'File "helper.py", line 2, in set_up' in raised.value.traceback
    assert_nothing_is_left(client, server, server_store, name)


@pytest.mark.parametrize(
    ("runner", "table", "message"),
    [
        ("value = 1\n", "", "defines no class named Runner"),
        ("class Runner:\n    pass\n", "", "inherits from nothing"),
        (f"{SOUND}\n    def broken(:\n", "", r"Runner\.py:6"),
        (SOUND, 'algorithm_type = "Image2Embedding"', "but Runner derives from Image2ImageRunner"),
    ],
    ids=["no-class", "no-base", "syntax", "type"],
)
def test_a_runner_that_cannot_be_used_is_refused(
    client: Client,
    server: Server,
    server_store: S3ObjectStore,
    write_algorithm: Write,
    publish: Publish,
    runner: str,
    table: str,
    message: str,
) -> None:
    with pytest.raises(InvalidPackageError, match=message):
        publish(write_algorithm("unusable", runner, table=table))

    assert_nothing_is_left(client, server, server_store, "unusable")


def put_blob(client: Client, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    client._http.call("PUT", f"/v1/blobs/{sha256}", json=content)
    return sha256


def post_files(client: Client, files: dict[str, str]) -> None:
    client._http.call("POST", "/v1/algorithms", json=json.dumps({"files": files}).encode())


def test_paths_that_leave_the_folder_are_refused(client: Client) -> None:
    """Each of them is named."""
    blob = put_blob(client, SOUND.encode())
    paths = ["../outside.py", "/etc/outside.py", "files/../../outside"]
    with pytest.raises(InvalidPackageError) as raised:
        post_files(client, {"Runner.py": blob} | dict.fromkeys(paths, blob))

    assert [problem.key for problem in raised.value.problems] == [repr(path) for path in paths]


def test_blobs_that_are_missing_are_named(client: Client) -> None:
    with pytest.raises(MissingBlobsError) as raised:
        post_files(client, {"Runner.py": hashlib.sha256(b"never sent").hexdigest()})

    assert [problem.key for problem in raised.value.problems] == ["Runner.py"]


def test_a_folder_without_runner_is_refused(client: Client) -> None:
    blob = put_blob(client, b'[project]\nname = "empty"\nversion = "1.0.0"\n')
    with pytest.raises(InvalidPackageError, match=r"^what was sent is no .*\s.*Runner\.py: is missing"):
        post_files(client, {"pyproject.toml": blob})


def test_packages_over_the_limits_are_refused(client: Client) -> None:
    """Too many files, before any is fetched; too many bytes, though one blob stands for many files."""
    blob = hashlib.sha256(b"x" * 100_000).hexdigest()
    with pytest.raises(PayloadTooLargeError, match="100001 files are over the limit of 10000"):
        post_files(client, {"Runner.py": blob} | {f"files/{number}": blob for number in range(100_000)})
    put_blob(client, b"x" * 100_000)
    with pytest.raises(PayloadTooLargeError, match="bytes of files are over the limit"):
        post_files(client, {"Runner.py": blob} | {f"files/{number}": blob for number in range(200)})
