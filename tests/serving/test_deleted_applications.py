"""Applications of algorithms that somebody deletes by `serve.delete`: they are deployed again once a run needs them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from t3d_server.client import Client, RunHandle
from t3d_server.models import AlgorithmVersion, RunStatus

if TYPE_CHECKING:
    from tests.conftest import Server

IMAGE = np.eye(4, dtype=np.uint8)
END_TIMEOUT_S = 150.0
DELETED = "deleted from Ray Serve"
LOADS_SLOWLY = """
import time
from pathlib import Path
from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def load_assets(self):
        while Path({path!r}).exists():
            time.sleep(0.1)

    def inference(self, data, args):
        return data
"""
DELETE = """
import sys
import ray
from ray import serve

ray.init(log_to_driver=False)
serve.delete(sys.argv[1], _blocking=False)
"""


def delete(server: Server, application: str) -> None:
    """Delete an application as another Ray program may; returns while Serve still works on it."""
    environment = {
        **server.environment,
        "RAY_ADDRESS": json.loads((server.state_dir / "server.json").read_text())["ray_address"],
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    command = [sys.executable, "-W", "ignore", "-c", DELETE, application]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr


def wait_until(holds: Callable[[], bool]) -> None:
    """Returns once that holds: Serve has no event to wait for."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def states(server: Server, application: str) -> list[str]:
    """The states of the replicas of an application on the CPU."""
    replicas = server.applications()[application]["deployments"]["cpu"]["replicas"]
    return [replica["state"] for replica in replicas]


def assert_completed_with_a_note(handle: RunHandle) -> None:
    """The run completes, and its log says once that the application was deleted."""
    assert handle.wait(END_TIMEOUT_S).status is RunStatus.COMPLETED
    assert len([line for line in handle.log() if DELETED in line.message]) == 1, handle.log()


def test_an_application_that_is_gone_is_deployed_again_for_the_next_run(
    server: Server, client: Client, cpu_only: AlgorithmVersion
) -> None:
    name = f"{cpu_only.manifest.name}-{cpu_only.manifest.version}"
    client.run("cpu-only", IMAGE)
    delete(server, name)
    wait_until(lambda: name not in server.applications())

    assert_completed_with_a_note(client.submit("cpu-only", IMAGE))
    assert not any(DELETED in line.message for line in client.submit("cpu-only", IMAGE, wait_s=60).log())


def test_a_run_that_waits_goes_on(
    server: Server,
    client: Client,
    write_algorithm: Callable[..., Path],
    publish: Callable[[Path], AlgorithmVersion],
    tmp_path: Path,
) -> None:
    """Its call waits for a replica of the application while that is deleted."""
    blocks = tmp_path / "blocks"
    publish(write_algorithm("loads-slowly", LOADS_SLOWLY.format(path=str(blocks))))
    wait_until(lambda: states(server, "loads-slowly-1.0.0") == [])  # no run needs it
    blocks.touch()
    handle = client.submit("loads-slowly", IMAGE)
    wait_until(lambda: states(server, "loads-slowly-1.0.0") == ["STARTING"])
    delete(server, "loads-slowly-1.0.0")
    wait_until(lambda: any(DELETED in line.message for line in handle.log()))
    blocks.unlink()

    assert_completed_with_a_note(handle)
