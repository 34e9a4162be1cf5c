"""The server as other Ray applications see it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server


def ray_environment(server: Server) -> dict[str, str]:
    """What tells Ray to connect to the server's cluster, with its address from the command line of a process of it."""
    addresses = (re.search(r"--gcs-address=([\d.:]+)", command) for command in server.processes().values())
    return {
        **server.environment,
        "RAY_ADDRESS": next(found.group(1) for found in addresses if found),
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes 127.0.0.1 for another address of the machine
    }


@pytest.mark.usefixtures("probe")
def test_driver_task_and_deployment_use_handles(server: Server) -> None:
    """With arrays of several megabytes in and out, waiting by `.result()` and awaiting; errors keep their class."""
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("handles_driver.py"))],
        env=ray_environment(server),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    for line in ("driver COMPLETED", "task COMPLETED", "deployment COMPLETED"):
        assert line in lines, ended.stdout
    assert lines[-1].startswith("error ")
    assert "algorithm_not_found" in lines[-1]
