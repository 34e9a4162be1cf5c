"""What `serving.replicas` does, on a model of Ray Serve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from t3d_server.runs.interface import QueueName
from t3d_server.runs.replica_calls import ReplicaGoneError
from t3d_server.serving.catalog import Catalog
from tests.simulation.processes import Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

DEPLOY_S = 0.05
ASK_S = 0.01


class SimReplicas:
    """See `runs.replica_calls.Replicas`.

    Args:
        world: the simulation.
        cluster: where the replicas are.
        process: the coordinator's process, which calls them.
        catalog: the published versions.
    """

    def __init__(self, world: World, cluster: Cluster, process: Process, catalog: Catalog) -> None:
        self._world = world
        self._cluster = cluster
        self._process = process
        self._catalog = catalog

    async def work(self, queue: QueueName, call_id: str) -> None:
        """See `Replicas.work`."""
        manifest = self._catalog.find(queue.algorithm, queue.version).manifest
        if queue.algorithm not in self._cluster.deployments:
            await asyncio.sleep(DEPLOY_S)
            self._cluster.deploy(manifest)
        deployment = self._cluster.deployments.get(queue.algorithm)
        if deployment is None:
            raise ReplicaGoneError("Ray Serve has no replica: the application does not exist")
        request = deployment.send(call_id, self._process)
        try:
            await asyncio.shield(request.future)
        except asyncio.CancelledError:
            request.cancel()
            raise

    async def obstacle(self, queue: QueueName) -> str | None:
        """See `Replicas.obstacle`."""
        await asyncio.sleep(ASK_S)
        deployment = self._cluster.deployments.get(queue.algorithm)
        return "its process ended" if deployment is not None and deployment.failures >= 3 else None

    async def shortage(self, queue: QueueName) -> str | None:
        """See `Replicas.shortage`."""
        await asyncio.sleep(ASK_S)
        return None

    async def is_gone(self, replica: str) -> bool:
        """See `Replicas.is_gone`."""
        await asyncio.sleep(ASK_S)
        return replica not in self._cluster.named

    async def kill(self, replica: str) -> None:
        """See `Replicas.kill`."""
        await asyncio.sleep(ASK_S)
        if (host := self._cluster.named.get(replica)) is not None:
            self._world.loop.later(self._world.latency_s(), host.die, "it was killed")
