"""Versions on a real server: upgrade, rollback and removal, and what they leave alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from t3d_server.client import Client, RunHandle
from t3d_server.errors import AlgorithmNotFoundError, VersionNotFoundError
from t3d_server.models import AlgorithmVersion, RunStatus
from t3d_server.storage.s3 import S3ObjectStore

if TYPE_CHECKING:
    from tests.conftest import Server

NAME = "adder"
IMAGE = np.zeros((3, 4), np.uint8)
RUNNER = """
import time
from pathlib import Path

from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        from part.value import VALUE

        self.log_message("at work")
        while args["path"] and not Path(args["path"]).exists():
            self.set_progress(0.5)
            time.sleep(0.02)
        return data + VALUE
"""
FREEZING_RUNNER = """
import ctypes
import threading
import time
from pathlib import Path

from t3d_server.algorithm_utils import Image2ImageRunner

HERE = Path({folder!r})


def freeze():
    while not (HERE / "freeze").exists():
        time.sleep(0.05)
    (HERE / "frozen").touch()
    ctypes.PyDLL(None).sleep(3600)  # no other thread gets to run


class Runner(Image2ImageRunner):
    def load_assets(self):
        threading.Thread(target=freeze, daemon=True).start()

    def inference(self, data, args):
        return data
"""
TABLE = """
additional_parameters = [{name = "path", description = "A file.", config = {type = "string", default = ""}}]
"""


def probe_pid(client: Client) -> int:
    """Process id of the probe's replica."""
    handle = client.submit("probe", IMAGE, args={"mode": "reports"})
    handle.wait(60)
    return int(json.loads(handle.log()[-1].message)["pid"])


@pytest.fixture(scope="module")
def publish_adder(
    write_algorithm: Callable[..., Path], publish: Callable[[Path], AlgorithmVersion]
) -> Callable[[str, int], AlgorithmVersion]:
    """Publishes a version that adds a value, which its submodule holds."""

    def publish_adder(version: str, value: int) -> AlgorithmVersion:
        files = {"part/value.py": f"VALUE = {value}\n"}
        return publish(write_algorithm(NAME, RUNNER, version=version, table=TABLE, files=files))

    return publish_adder


@pytest.fixture
def two_versions(client: Client, publish_adder: Callable[[str, int], AlgorithmVersion]) -> Iterator[int]:
    """Version 1.0.0 adds 1, 1.1.0 adds 2 and is current; the process id of the probe before."""
    pid = probe_pid(client)
    publish_adder("1.0.0", 1)
    publish_adder("1.1.0", 2)
    yield pid
    try:
        for version in client.algorithm(NAME).versions:
            client.remove(NAME, version, cancel_runs=True)
    except AlgorithmNotFoundError:
        pass  # the test removed them


def sum_of(client: Client, version: str | None = None) -> int:
    """What a run adds."""
    return int(client.run(NAME, IMAGE, version=version)["image"][0, 0])


@pytest.mark.usefixtures("probe")
def test_upgrade_rollback_and_removal(
    client: Client, server: Server, server_store: S3ObjectStore, two_versions: int
) -> None:
    """Each version runs its own submodule, the current one where none is named; other algorithms notice nothing."""
    assert client.algorithm(NAME).versions == ["1.1.0", "1.0.0"]
    assert [sum_of(client), sum_of(client, "1.0.0"), sum_of(client, "1.1.0"), sum_of(client)] == [2, 1, 2, 2]

    assert client.use(NAME, "1.0.0").current == "1.0.0"
    assert sum_of(client) == 1
    with pytest.raises(VersionNotFoundError):
        client.use(NAME, "7.0.0")

    client.remove(NAME, "1.0.0")
    assert sum_of(client) == 2
    with pytest.raises(VersionNotFoundError, match=r"1\.0\.0"):
        client.submit(NAME, IMAGE, version="1.0.0")
    assert f"{NAME}-1.0.0" not in server.applications()

    client.remove(NAME, "1.1.0")
    with pytest.raises(AlgorithmNotFoundError):
        client.submit(NAME, IMAGE)
    with pytest.raises(AlgorithmNotFoundError):
        client.remove(NAME, "1.1.0")
    left = {stat.key for stat in server_store.list(f"algorithms/{NAME}/")}
    assert left == {f"algorithms/{NAME}/{version}.removed" for version in ("1.0.0", "1.1.0")}
    assert probe_pid(client) == two_versions


@pytest.mark.parametrize(("cancel", "status"), [(False, RunStatus.COMPLETED), (True, RunStatus.CANCELLED)])
@pytest.mark.usefixtures("probe", "two_versions")
def test_removal_waits_for_runs_or_cancels_them(
    client: Client, tmp_path: Path, cancel: bool, status: RunStatus
) -> None:
    """Meanwhile it takes no new ones; the other version goes on."""
    path = tmp_path / "go"
    handle = client.submit(NAME, IMAGE, args={"path": str(path)})
    at_work(handle)
    removal = threading.Thread(target=client.remove, args=(NAME, "1.1.0"), kwargs={"cancel_runs": cancel})
    removal.start()
    if not cancel:
        while not refused(client, "1.1.0"):  # as soon as it has heard of the removal
            assert removal.is_alive()
        assert removal.is_alive()
        assert handle.refresh().status is RunStatus.RUNNING
        path.touch()
    removal.join(100)

    assert not removal.is_alive()
    assert handle.wait(60).status is status
    assert client.algorithm(NAME).versions == ["1.0.0"]
    assert sum_of(client) == 1


@pytest.mark.usefixtures("probe")
def test_a_replica_that_hangs_does_not_hold_up_its_removal(
    client: Client,
    server: Server,
    write_algorithm: Callable[..., Path],
    publish: Callable[[Path], AlgorithmVersion],
    tmp_path: Path,
) -> None:
    """Here in C code that never lets go of the interpreter; Serve would wait for it for days."""
    runner = FREEZING_RUNNER.format(folder=str(tmp_path))
    publish(write_algorithm("freezing", runner, table="min_replicas = 1"))
    (tmp_path / "freeze").touch()
    while not (tmp_path / "frozen").exists():
        time.sleep(0.05)  # there is no event for what another process does
    removal = threading.Thread(target=client.remove, args=("freezing", "1.0.0"), daemon=True)
    removal.start()
    removal.join(100)

    assert not removal.is_alive()
    assert "freezing-1.0.0" not in server.applications()
    assert publish(write_algorithm("freezing", version="1.0.1")).proven == ["cpu"]
    client.remove("freezing", "1.0.1")


def at_work(handle: RunHandle) -> None:
    """Returns when the author's code runs."""
    next(run for run in handle.events() if run.message == "at work")


def refused(client: Client, version: str) -> bool:
    """Whether the version takes no runs; a run of one that does is waited for."""
    try:
        client.submit(NAME, IMAGE, version=version).wait(60)
    except VersionNotFoundError as error:
        return "is being removed" in str(error)
    return False
