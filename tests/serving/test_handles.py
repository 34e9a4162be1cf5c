"""The server as other Ray applications see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server

STEPS = """\
driver: the image came back
raw: COMPLETED
task: the image came back
deployment: both images came back
datasets: dataset_not_found
runs: CANCELLED, log: ['holding', 'the run was cancelled']
interrupted: CANCELLED
called off: CANCELLED
given up: CANCELLED
errors: probe 1.0.0 failed: ValueError: the image is too green: 4.0
"""


def ray_environment(server: Server) -> dict[str, str]:
    """What tells Ray to connect to the server's cluster."""
    return {
        **server.environment,
        "RAY_ADDRESS": json.loads((server.state_dir / "server.json").read_text())["ray_address"],
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes 127.0.0.1 for another address of the machine
    }


@pytest.mark.usefixtures("probe")
def test_drivers_tasks_and_deployments_use_handles(server: Server) -> None:
    """With arrays of several megabytes in and out, waiting by `.result()` and awaiting; errors are the package's."""
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("handles_driver.py"))],
        env=ray_environment(server),
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert ended.stdout.startswith(STEPS), ended.stdout + ended.stderr
    assert 'File "steps/deep.py", line 3, in explode' in ended.stdout.removeprefix(STEPS)
    assert ended.returncode == 0, ended.stderr


def test_without_a_cluster_there_are_no_handles(tmp_path: Path) -> None:
    """And no Ray is started."""
    code = "from t3d_server.handles import T3D; T3D()"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "ServerUnavailableError: This process belongs to no Ray cluster" in ended.stderr
