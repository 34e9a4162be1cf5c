"""Starting and stopping everything: what is left, and what is there again."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from t3d_server.models import RunStatus

if TYPE_CHECKING:
    from tests.conftest import Server

    StartServer = Callable[..., AbstractContextManager[Server]]

IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)
GONE_TIMEOUT_S = 30.0


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(240)
def test_everything_comes_back_and_nothing_stays(
    start_server: StartServer, tmp_path: Path, probe_files: dict[str, Path], write_algorithm: Callable[..., Path]
) -> None:
    """SIGTERM, Ctrl-C and SIGKILL leave no process; data, algorithms and runs outlive them, open runs are taken up."""
    idle = write_algorithm("idle")
    go = tmp_path / "go"
    with start_server(tmp_path / "state") as first:
        first.wait_until_ready()
        assert stat.S_IMODE((first.state_dir / "token").stat().st_mode) == 0o600
        with first.client() as client:
            client.publish(probe_files)
            client.publish({path.name: path for path in idle.iterdir()})
            image = client.upload(IMAGE, spacing=(0.5, 0.25)).id
            finished = client.submit("probe", image, args={"mode": "reports"})
            assert finished.wait(60).status is RunStatus.COMPLETED
            log = finished.log()
            held = client.submit("probe", image, args={"mode": "holds", "path": str(go)})
            next(run for run in held.events() if run.message == "holding")
            info = client.info(image)
        assert first.stop(signal.SIGTERM) == 0, first.output
        first.wait_until_gone(GONE_TIMEOUT_S)
        assert not is_open(first.port)
        assert not (first.state_dir / "server.json").exists()

    with start_server(tmp_path / "state") as second:
        second.wait_until_ready()
        assert second.token == first.token
        with second.client() as client:
            assert client.info(image) == info
            np.testing.assert_array_equal(client.fetch_array(image), IMAGE)
            assert client.get_run(finished.id) == finished.run
            assert client.log(finished.id) == log
            np.testing.assert_array_equal(client.fetch(finished.run.output_dataset_ids[0])["image"], IMAGE)

            # Only `probe`, which is to be kept warm, has replicas before somebody asks.
            cpu = second.applications()["idle-1.0.0"]["deployments"]["cpu"]
            assert (cpu["status"], cpu["replicas"]) == ("HEALTHY", [])
            np.testing.assert_array_equal(client.run("idle", image)["image"], IMAGE)

            go.touch()
            taken_up = client.get_run(held.id, wait_s=60)
            assert taken_up.status is RunStatus.COMPLETED
            assert "the server was started again" in [line.message for line in client.log(held.id)]
        second.stop(signal.SIGINT, group=True)
        second.wait_until_gone(GONE_TIMEOUT_S)
        assert "Traceback" not in second.output

    with start_server(tmp_path / "state") as third:
        third.wait_until_ready()
        with third.client() as client:
            assert client.get_run(held.id) == taken_up
        third.stop(signal.SIGKILL)
        third.wait_until_gone(GONE_TIMEOUT_S)
        assert not is_open(third.port)


def test_a_store_that_is_not_there_ends_the_start(start_server: StartServer, tmp_path: Path) -> None:
    """With a message that names it; nothing is left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with start_server(tmp_path / "state", T3D_S3_ENDPOINT=endpoint) as server:
            assert server.process.wait(60) == 1
            server.wait_until_gone(5)

    assert endpoint in server.output
    assert "error: " in server.output
    assert "Traceback" not in server.output


def test_a_port_that_is_taken_ends_the_start(start_server: StartServer, tmp_path: Path) -> None:
    """Before anything is started; the message names the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with start_server(tmp_path / "state", T3D_PORT=str(taken.getsockname()[1])) as server:
            assert server.process.wait(60) == 1

    assert "T3D_PORT" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, "starting Ray"), (signal.SIGINT, "starting the server")])
def test_a_signal_while_it_starts_leaves_nothing(
    start_server: StartServer, tmp_path: Path, number: signal.Signals, step: str
) -> None:
    """SIGTERM and Ctrl-C end the start; another `t3d up` is refused meanwhile, and does not disturb it."""
    with start_server(tmp_path / "state") as server:
        server.wait_for(step)
        second = subprocess.run([server.command, "up"], env=server.environment, capture_output=True, text=True)
        code = server.stop(number, group=number == signal.SIGINT)
        server.wait_until_gone(GONE_TIMEOUT_S)

    assert (second.returncode, code) == (1, 130)
    assert "T3D_STATE_DIR" in second.stderr
    assert not (tmp_path / "state" / "server.json").exists()
    assert "Traceback" not in server.output
    assert "SIGTERM" not in server.output  # Ray's own handler would print a stack


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
