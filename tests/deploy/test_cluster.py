"""`deploy/serve.yaml` on a Ray cluster of two nodes, which both are on this machine."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml

from t3d_server.client import Client
from t3d_server.models import RunStatus
from t3d_server.packages.folder import scan
from t3d_server.serving import reaper
from t3d_server.serving.haproxy import haproxy_environment
from t3d_server.storage.embedded import EmbeddedStore
from tests.conftest import own_ports

HEAD, WORKER = "127.0.0.2", "127.0.0.3"
"""Two nodes to Ray; of 127.0.0.1 it makes another address of the machine."""

ADMIN, USER = "admin-token-of-the-cluster", "use-token-of-the-cluster"
CONFIG = Path(__file__).parents[2] / "deploy" / "serve.yaml"
RUNNER = """
import ray

from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        self.log_message(ray.util.get_node_ip_address())
        return data + 1
"""


class Cluster:
    """A Ray cluster that an operator has started.

    Args:
        folder: for its files, with a short path; by it its processes are found.
        settings: `T3D_*`.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self._gcs, self._dashboard, self._ray_client, self.port = map(str, own_ports(4))
        self._token = secrets.token_hex(32)
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("T3D_", "RAY_"))},
            **haproxy_environment(folder),
            **settings,
            "T3D_STATE_DIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "500",  # so soon Ray notices that a node has died
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start both nodes; leaving the context kills them."""
        with ExitStack() as cleanup:
            cleanup.callback(self._kill)
            ports = [f"--port={self._gcs}", f"--dashboard-port={self._dashboard}"]
            ports += [f"--ray-client-server-port={self._ray_client}"]
            self._start_node(cleanup, "--head", HEAD, "--num-cpus=1", f"--temp-dir={self._folder}", *ports)
            self.start_worker(cleanup)
            yield

    def start_worker(self, cleanup: ExitStack) -> None:
        """Start the other node; `cleanup` kills all of the cluster."""
        self._start_node(cleanup, f"--address={HEAD}:{self._gcs}", WORKER, "--num-cpus=4")

    def kill_worker(self) -> None:
        """Kill what makes it a node: Ray notices, and ends the rest."""
        for pid in reaper.processes(str(self._folder)):
            with suppress(OSError):  # it has just ended
                command = Path(f"/proc/{pid}/cmdline").read_text()
                if "/raylet/raylet\0" in command and WORKER in command:
                    reaper.kill(pid)

    def deploy(self) -> None:
        """`serve deploy` of the config, but for the port; returns once the server is ready."""
        config = yaml.safe_load(CONFIG.read_text())
        config["http_options"]["port"] = int(self.port)
        path = self._folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config))
        self._serve("deploy", str(path))
        while not self._is_ready():
            time.sleep(0.1)  # nothing tells

    def shut_down(self) -> None:
        """`serve shutdown`."""
        self._serve("shutdown", "--yes")

    def client(self, token: str) -> Client:
        """A client of the server."""
        return Client(f"http://127.0.0.1:{self.port}", token)

    def ask_ray(self, path: str) -> Any:
        """What the dashboard says."""
        url = f"http://127.0.0.1:{self._dashboard}/{path}"
        answer = requests.get(url, headers={"Authorization": f"Bearer {self._token}"}, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _start_node(self, cleanup: ExitStack, role: str, address: str, *options: str) -> None:
        command = ["start", "--block", role, f"--node-ip-address={address}", "--dashboard-agent-listen-port=0"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]  # else it takes some of those that were chosen
        node = cleanup.enter_context(
            subprocess.Popen(
                [_program("ray"), *command, "--object-store-memory=200000000", *options],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        cleanup.callback(self._kill)
        assert node.stdout is not None
        lines = []
        for line in node.stdout:
            lines.append(line)
            if "Ray runtime started" in line:
                return
        pytest.fail("".join(lines))

    def _serve(self, command: str, *args: str) -> None:
        address = ["--address", f"http://127.0.0.1:{self._dashboard}"]
        subprocess.run([_program("serve"), command, *address, *args], env=self._environment, check=True)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=60).ok
        except requests.RequestException:
            return False

    def _kill(self) -> None:
        while pids := reaper.processes(str(self._folder)):
            for pid in pids:
                reaper.kill(pid)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.mark.timeout(480)
@pytest.mark.skipif(sys.platform != "linux", reason="has more than one loopback address on Linux alone")
def test_serve_deploy_brings_up_the_server_on_a_cluster(
    embedded_store: EmbeddedStore, write_algorithm: Callable[..., Path]
) -> None:
    """Algorithms run where there is room for them; a second `serve deploy` changes nothing; after `serve shutdown` it
    brings back everything; and Ray knows no credential of the store. Where there is no room any more, runs wait.
    """
    location = replace(embedded_store.location, bucket=f"cluster-{secrets.token_hex(6)}")
    settings = {
        "T3D_S3_ENDPOINT": location.endpoint,
        "T3D_S3_ACCESS_KEY": location.access_key,
        "T3D_S3_SECRET_KEY": location.secret_key,
        "T3D_S3_BUCKET": location.bucket,
        "T3D_S3_SECURE": "false",
        "T3D_TOKENS": json.dumps({ADMIN: "admin", USER: "use"}),
    }
    folder = write_algorithm("elsewhere", RUNNER, table="num_cpus = 2")  # the head has one
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    with tempfile.TemporaryDirectory(prefix="t3d-") as name:
        cluster = Cluster(Path(name), settings)
        with cluster.running():
            cluster.deploy()
            with cluster.client(ADMIN) as admin:
                admin.publish(scan(folder)[0])
            router = cluster.ask_ray("api/serve/applications/")["applications"]["t3d"]["deployments"]["router"]
            cluster.deploy()
            with cluster.client(USER) as client:
                run = client.submit("elsewhere", client.upload(image))
                np.testing.assert_array_equal(run.result()[0]["image"], image + 1)
                assert [line.message for line in run.log()] == [WORKER]
            applications = cluster.ask_ray("api/serve/applications/")
            assert applications["applications"]["t3d"]["deployments"]["router"]["replicas"] == router["replicas"]
            assert location.secret_key not in json.dumps([applications, cluster.ask_ray("api/v0/actors?detail=True")])

            cluster.shut_down()
            cluster.deploy()
            with cluster.client(USER) as client:
                np.testing.assert_array_equal(client.run("elsewhere", image)["image"], image + 1)

                cluster.kill_worker()
                while (
                    cluster.ask_ray("api/serve/applications/")["applications"]["elsewhere-1.0.0"]["status"] == "RUNNING"
                ):
                    time.sleep(0.1)  # nothing tells
                run = client.submit("elsewhere", client.upload(image))
                [lacking] = next(event.lines for event in run.events() if event.lines)
                assert lacking.message == "waits for a node with 2 CPU: the cluster has none"
                assert run.refresh().status is RunStatus.PENDING
                with ExitStack() as cleanup:
                    cluster.start_worker(cleanup)
                    np.testing.assert_array_equal(run.result()[0]["image"], image + 1)
                assert run.run.attempts == 1
