"""When an application is deployed anew, and when its replicas are left alone; shares of a GPU."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from ray import serve
from ray.serve._private.common import DeploymentStatusTrigger
from ray.serve.schema import ApplicationStatus

from t3d_server.errors import LoadFailedError
from t3d_server.models import AlgorithmVersion, Device, InputInfo, Manifest, OutputInfo
from t3d_server.runs.interface import QueueName
from t3d_server.serving.applications import Applications
from t3d_server.serving.deaths import NODE_HAS_DIED
from t3d_server.serving.placement import deployment_options, gpu_share
from t3d_server.serving.replicas import DELETED, ServeReplicas
from t3d_server.serving.resources import PlacementDefaults, Resources, application_name

GIB = 2**30
DEFAULTS = PlacementDefaults(
    num_cpus=1, num_gpus=0.25, gpu_memory_bytes=16 * GIB, max_replicas=1, idle_s=1, longest_run_s=1
)
FULL_GPU = """
import os
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray

from t3d_server.serving import placement

ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)


@ray.remote(num_cpus=1, num_gpus=1)
class Taker:
    def there(self):
        return True


taker = Taker.remote()
assert ray.get(taker.there.remote(), timeout=100)
placement.GPU_ANSWER_S = 100
print("told", placement.ask_gpu_memory_bytes())
ray.shutdown()
"""


def manifest(**fields: Any) -> Manifest:
    return Manifest(name="blur", version="1.0.0", supported_devices=["cpu", "gpu"], **fields)


class Controller:
    """Serve's, as far as it is asked: keeps which deployments an application has, and counts what is deployed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.applications: dict[str, Any] = {}
        self.deployed: list[list[str]] = []
        monkeypatch.setattr(serve, "status", lambda: self)
        monkeypatch.setattr(serve, "_run", self.run)

    def run(self, application: Any, *, name: str, **_: Any) -> None:
        bound = application._bound_deployment
        names = [bound.name, *(argument._bound_deployment.name for argument in bound.init_args)]
        self.deployed.append(names[1:])
        deployments = dict.fromkeys(names)
        self.applications[name] = SimpleNamespace(status=ApplicationStatus.RUNNING, deployments=deployments)

    def begin_to_delete(self) -> None:
        """What is deployed is on its way out."""
        for application in self.applications.values():
            application.status, application.deployments = ApplicationStatus.DELETING, {}


def unconnected() -> Resources:
    raise AssertionError("only a replica connects")


def test_a_device_that_is_gone_leaves_an_application_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the coordinator starts again meanwhile; one that is added is deployed."""
    controller = Controller(monkeypatch)
    blur = AlgorithmVersion(manifest=manifest(), source_sha256="0", module_sha256="0", assets={})
    both: list[Device] = ["cpu", "gpu"]

    async def play() -> None:
        before, after = Applications(unconnected, DEFAULTS), Applications(unconnected, DEFAULTS)
        await before.deploy(blur, ["cpu"])
        await before.deploy(blur, both)
        await before.deploy(blur, ["cpu"])
        await after.deploy(blur, ["cpu"])
        await after.deploy(blur, both)

    asyncio.run(play())
    assert controller.deployed == [["cpu"], ["cpu", "gpu"]]


def test_what_loading_has_told_leaves_an_application_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the record that the coordinator reads when it starts again, and was not when it was deployed."""
    controller = Controller(monkeypatch)
    told = {"algorithm_type": "Image2Image", "inputs": InputInfo(min_datasets=1), "outputs": OutputInfo()}

    async def play() -> None:
        for fields in ({}, told):
            blur = AlgorithmVersion(manifest=manifest(**fields), source_sha256="0", module_sha256="0", assets={})
            await Applications(unconnected, DEFAULTS).deploy(blur, ["cpu"])

    asyncio.run(play())
    assert len(controller.deployed) == 1


def test_other_content_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(monkeypatch)

    async def play() -> None:
        for module in ("0", "1"):
            blur = AlgorithmVersion(manifest=manifest(), source_sha256="0", module_sha256=module, assets={})
            await Applications(unconnected, DEFAULTS).deploy(blur, ["cpu"])

    asyncio.run(play())
    assert len(controller.deployed) == 2


def test_an_application_that_was_deleted_is_deployed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the devices that it had; what waits for it learns of it, on whichever device."""
    controller = Controller(monkeypatch)
    blur = AlgorithmVersion(manifest=manifest(), source_sha256="0", module_sha256="0", assets={})
    queues = [QueueName("blur", "1.0.0", "cpu"), QueueName("blur", "1.0.0", "gpu")]

    class Versions:
        def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
            return blur

    async def play() -> None:
        applications = Applications(unconnected, DEFAULTS)
        monkeypatch.setattr(applications, "obstacle", AsyncMock(return_value=None))
        monkeypatch.setattr(applications, "shortage", AsyncMock(return_value=None))
        replicas = ServeReplicas(Versions(), applications, lambda: ["cpu"])
        assert await replicas.obstacle(queues[0]) is None  # it is being deployed for the first time
        assert await replicas.shortage(queues[0]) is None
        await applications.deploy(blur, ["cpu", "gpu"])
        for deletes in (controller.applications.clear, controller.begin_to_delete):
            deletes()
            for queue in queues:
                assert await replicas.obstacle(queue) is None
                assert await replicas.shortage(queue) == DELETED
            while DELETED in [await replicas.shortage(queue) for queue in queues]:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
        assert await replicas.obstacle(queues[0]) is None
        assert await replicas.shortage(queues[0]) is None

    asyncio.run(play())
    assert controller.deployed == [["cpu", "gpu"]] * 3


def test_an_application_that_is_deleted_at_once_does_not_block_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(monkeypatch)
    monkeypatch.setattr("t3d_server.serving.applications.DEPLOY_S", 0.2)
    run = controller.run
    blur = AlgorithmVersion(manifest=manifest(), source_sha256="0", module_sha256="0", assets={})

    def run_and_delete(*args: Any, **options: Any) -> None:
        run(*args, **options)
        controller.applications.clear()

    async def play() -> None:
        applications = Applications(unconnected, DEFAULTS)
        monkeypatch.setattr(serve, "_run", run_and_delete)
        with pytest.raises(TimeoutError, match=r"no blur-1\.0\.0"):
            await applications.deploy(blur, ["cpu"])
        monkeypatch.setattr(serve, "_run", run)
        await applications.deploy(blur, ["cpu"])

    asyncio.run(play())
    assert list(controller.applications) == ["blur-1.0.0"]


def test_an_application_that_was_removed_is_not_deployed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(monkeypatch)
    monkeypatch.setattr(serve, "delete", lambda name, **_: controller.applications.pop(name))
    blur = AlgorithmVersion(manifest=manifest(), source_sha256="0", module_sha256="0", assets={})

    async def play() -> None:
        applications = Applications(unconnected, DEFAULTS)
        await applications.deploy(blur, ["cpu"])
        await applications.remove("blur-1.0.0")
        assert not await applications.is_deleted("blur-1.0.0")
        await applications.deploy_again(blur)

    asyncio.run(play())
    assert (len(controller.deployed), controller.applications) == (1, {})


@pytest.mark.parametrize(
    ("trigger", "message", "obstacle"),
    [
        (
            DeploymentStatusTrigger.REPLICA_STARTUP_FAILED,
            "Error:\n  File\nits process has died",
            "its process has died",
        ),
        (DeploymentStatusTrigger.REPLICA_STARTUP_FAILED, f"Error:\n{NODE_HAS_DIED} Node Id: 1", None),
        (DeploymentStatusTrigger.HEALTH_CHECK_FAILED, "A replica's health check failed.", None),
        (DeploymentStatusTrigger.AUTOSCALING, "", None),
    ],
)
def test_only_replicas_that_have_ended_while_they_loaded_are_an_obstacle(
    monkeypatch: pytest.MonkeyPatch, trigger: DeploymentStatusTrigger, message: str, obstacle: str | None
) -> None:
    """Not one that worked and has died, nor those whose node has died before they began."""
    deployment = SimpleNamespace(status_trigger=trigger, message=message)
    application = SimpleNamespace(status=ApplicationStatus.UNHEALTHY, deployments={"cpu": deployment})
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications={"blur-1.0.0": application}))
    assert asyncio.run(Applications(unconnected, DEFAULTS).obstacle("blur-1.0.0", "cpu")) == obstacle


@pytest.mark.parametrize(
    ("num_cpus", "device", "message", "shortage"),
    [
        (2, "cpu", "", None),
        (2, "cpu", "1 replicas that have taken more than 30s to initialize.", None),
        (2, "cpu", "1 replicas that have taken more than 30s to be scheduled.", "waits for room: each node that is"),
        (3, "cpu", "", "waits for a node with 3 CPU: the cluster has none"),
        (1, "gpu", "", "waits for a node with 1 CPU and 0.25 GPU: the cluster has none"),
    ],
)
def test_what_no_node_has_room_for_is_told(
    monkeypatch: pytest.MonkeyPatch, num_cpus: float, device: Device, message: str, shortage: str | None
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2}},
        {"Alive": True, "Resources": {"GPU": 1}},
        {"Alive": False, "Resources": {"CPU": 8, "GPU": 1}},
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    version = AlgorithmVersion(manifest=manifest(num_cpus=num_cpus), source_sha256="0", module_sha256="0", assets={})
    application = SimpleNamespace(deployments={"cpu": SimpleNamespace(message=message)})
    name = application_name(version.manifest.name, version.manifest.version)
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications={name: application}))
    told = asyncio.run(Applications(unconnected, DEFAULTS).shortage(version, device))
    assert told is None if shortage is None else told and told.startswith(shortage)


@pytest.mark.parametrize(
    ("fields", "memory_bytes", "share"),
    [
        ({}, 16 * GIB, 0.25),
        ({"num_gpus": 0.5}, 16 * GIB, 0.5),
        ({"num_gpus": 2}, 16 * GIB, 2),
        ({"gpu_memory_bytes": 6 * GIB}, 16 * GIB, 0.375),
        ({"gpu_memory_bytes": 1}, 16 * GIB, 0.0001),
        ({"gpu_memory_bytes": 32 * GIB}, 16 * GIB, 1),
        ({"gpu_memory_bytes": 6 * GIB}, None, 0.25),
    ],
)
def test_the_share_of_a_gpu(fields: dict[str, Any], memory_bytes: int | None, share: float) -> None:
    assert gpu_share(manifest(**fields), DEFAULTS, memory_bytes) == share


def test_a_replica_may_reserve_no_cpu() -> None:
    assert deployment_options(manifest(num_cpus=0), "cpu", DEFAULTS, None)["ray_actor_options"]["num_cpus"] == 0


def test_more_memory_than_a_gpu_has_is_refused() -> None:
    """Which publishing asks for; a version that is there is served with what there is."""
    served = Applications(unconnected, DEFAULTS)
    asyncio.run(served.require_gpu_memory(manifest(gpu_memory_bytes=16 * GIB)))
    with pytest.raises(LoadFailedError, match="lower `gpu_memory`"):
        asyncio.run(served.require_gpu_memory(manifest(gpu_memory_bytes=17 * GIB)))


def test_a_gpu_that_is_taken_tells_its_memory() -> None:
    """Here a mere number, so that it tells that it does not know; what counts is that it answers."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "T3D_"))}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL_GPU],
        env=environment,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert told.stdout.strip().splitlines()[-1:] == ["told None"], told.stderr
    assert "could not be asked" not in told.stderr
