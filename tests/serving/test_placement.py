"""Where replicas run on a real cluster: shares of a GPU, the CPU alone, and none at all while nobody asks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from t3d_server.client import Client, RunHandle
from t3d_server.models import AlgorithmVersion, RunStatus

if TYPE_CHECKING:
    from tests.conftest import Server

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)
GPU_RUNNER = """
import json, os, time
from pathlib import Path

import ray

from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        self.log_message(json.dumps({"pid": os.getpid(), "device": self.device, "accelerators": ids}))
        self.log_message("holding")
        while not Path(args["path"]).exists():
            self.set_progress(0.5)
            time.sleep(0.02)
        return data
"""
GPU_TABLE = """
supported_devices = ["gpu"]
default_device = "gpu"
num_gpus = 0.25
additional_parameters = [{name = "path", description = "A file.", config = {type = "string", default = ""}}]
"""
REPLICA_STOP_TIMEOUT_S = 120.0


def told(handle: RunHandle) -> dict[str, Any]:
    """What the run has logged of the place where it is."""
    found: dict[str, Any] = json.loads(handle.log()[0].message)
    return found


@pytest.mark.usefixtures("probe")
def test_two_algorithms_share_a_gpu(
    client: Client, write_algorithm: Callable[..., Path], publish: Callable[[Path], AlgorithmVersion], tmp_path: Path
) -> None:
    """A half and a quarter of the only one, at work at the same time; a run lands there by the default device."""
    assert publish(write_algorithm("quarter", GPU_RUNNER, table=GPU_TABLE)).proven == ["gpu"]
    go = tmp_path / "go"
    quarter = client.submit("quarter", IMAGE, args={"path": str(go)})
    half = client.submit("probe", IMAGE, args={"mode": "holds", "path": str(go)}, device="gpu")
    for handle in (quarter, half):
        next(run for run in handle.events() if run.message == "holding")
    assert {client.get_run(handle.id).status for handle in (quarter, half)} == {RunStatus.RUNNING}
    assert (quarter.run.device, quarter.run.resolved_device) == (None, "gpu")
    go.touch()
    for handle in (quarter, half):
        assert handle.wait(60).status is RunStatus.COMPLETED

    other = client.submit("probe", IMAGE, args={"mode": "reports"}, device="gpu")
    other.wait(60)
    assert told(quarter)["accelerators"] == told(other)["accelerators"] == ["0"]
    assert told(quarter)["device"] == told(other)["device"] == "cuda"
    assert told(quarter)["pid"] != told(other)["pid"]


@pytest.mark.usefixtures("probe")
def test_a_cpu_replica_sees_no_gpu(client: Client) -> None:
    handle = client.submit("probe", IMAGE, args={"mode": "reports"})
    handle.wait(60)

    assert told(handle)["visible"] == ""
    assert told(handle)["accelerators"] == []
    assert told(handle)["device"] == "cpu"


def test_an_idle_algorithm_has_no_replica_until_it_is_asked(
    client: Client, server: Server, cpu_only: AlgorithmVersion
) -> None:
    name = cpu_only.manifest.name
    client.run(name, IMAGE)
    application = f"{name}-{cpu_only.manifest.version}"

    def replicas() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = server.applications()[application]["deployments"]["cpu"]["replicas"]
        return found

    assert [replica["state"] for replica in replicas()] == ["RUNNING"]
    deadline = time.monotonic() + REPLICA_STOP_TIMEOUT_S
    while replicas():
        assert time.monotonic() < deadline, replicas()
        time.sleep(0.2)  # Ray Serve has no event for it
    np.testing.assert_array_equal(client.run(name, IMAGE)["image"], IMAGE)


def test_the_dashboard_names_everything(client: Client, server: Server, probe: AlgorithmVersion) -> None:
    """The router and each version by its name, with the devices and the log files of replicas."""
    client.run("probe", IMAGE)
    applications = server.applications()

    assert applications["t3d"]["deployments"]["router"]["replicas"][0]["log_file_path"]
    assert applications["probe-1.0.0"]["status"] == "RUNNING"
    [replica] = applications["probe-1.0.0"]["deployments"]["cpu"]["replicas"]
    assert "probe-1.0.0_cpu" in replica["log_file_path"]
    assert "gpu" in applications["probe-1.0.0"]["deployments"]
