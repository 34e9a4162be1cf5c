"""Starts that fail, are broken off, or find another server; `test_chaos.py` has what outlives a server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server

    StartServer = Callable[..., AbstractContextManager[Server]]


def test_a_store_that_is_not_there_ends_the_start(start_server: StartServer, tmp_path: Path) -> None:
    """With a message that names it; nothing is left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with start_server(tmp_path / "state", T3D_S3_ENDPOINT=endpoint) as server:
            assert server.wait() == 1
            server.wait_until_gone()

    assert endpoint in server.output
    assert "error: " in server.output
    assert "Traceback" not in server.output


def test_a_port_that_is_taken_ends_the_start(start_server: StartServer, tmp_path: Path) -> None:
    """Before anything is started; the message names the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with start_server(tmp_path / "state", T3D_PORT=str(taken.getsockname()[1])) as server:
            assert server.wait() == 1

    assert "T3D_PORT" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, "starting Ray"), (signal.SIGINT, "starting the server")])
def test_a_signal_while_it_starts_leaves_nothing(
    start_server: StartServer, tmp_path: Path, number: signal.Signals, step: str
) -> None:
    """SIGTERM and Ctrl-C end the start; another `t3d up` is refused meanwhile, and does not disturb it."""
    with start_server(tmp_path / "state") as server:
        server.wait_for(step)
        os.kill(server.process.pid, signal.SIGSTOP)  # it would be ready before the second one has an answer
        second = subprocess.run([server.command, "up"], env=server.environment, capture_output=True, text=True)
        (os.killpg if number == signal.SIGINT else os.kill)(server.process.pid, number)  # as a terminal does
        os.kill(server.process.pid, signal.SIGCONT)
        code = server.wait()
        server.wait_until_gone()

    assert (second.returncode, code) == (1, 130)
    assert "T3D_STATE_DIR" in second.stderr
    assert not (tmp_path / "state" / "server.json").exists()
    assert "Traceback" not in server.output
    assert "SIGTERM" not in server.output  # Ray's own handler would print a stack
    assert server.output.endswith("stopping ...\n")


def test_a_second_server_stands_beside_the_first(server: Server, start_server: StartServer, tmp_path: Path) -> None:
    """Its dashboard takes the next free port, its Ray cluster is its own, and its settings reach all processes."""
    first = json.loads((server.state_dir / "server.json").read_text())
    (tmp_path / "t3d.env").write_text("T3D_MAX_DATASET_BYTES=777777\n")
    options = {
        "T3D_DASHBOARD_PORT": server.dashboard_url.rpartition(":")[2],
        "T3D_SETTINGS_FILE": str(tmp_path / "t3d.env"),
        "RAY_ADDRESS": first["ray_address"],
    }
    with start_server(tmp_path / "state", **options) as second:
        second.wait_until_ready()
        state = json.loads((second.state_dir / "server.json").read_text())
        assert state["dashboard_url"] != server.dashboard_url
        assert state["ray_address"] != first["ray_address"]
        again = subprocess.run([second.command, "up"], env=second.environment, capture_output=True, text=True)
        assert again.returncode == 0
        assert f"running already: {second.url}" in again.stdout
        assert f"kill {second.process.pid}" in again.stdout
        with second.client() as client:
            assert client.algorithms() == []
            assert client.server().limits["max_dataset_bytes"] == 777777
