"""What `serving.coordinator_actor` does, on a model of Ray Serve: scheduling, and removal of versions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from t3d_server.errors import AlgorithmNotFoundError, T3dError, VersionNotFoundError
from t3d_server.packages.registry import Registry
from t3d_server.runs.interface import QueueName, Receipt
from t3d_server.runs.scheduler import RunScheduler
from t3d_server.serving.catalog import Catalog
from tests.simulation.processes import Process
from tests.simulation.replicas import SimReplicas
from tests.simulation.resources import Resources, SerialPool
from tests.simulation.threads import ThreadCount

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

START_RETRY_S = 2.0
STORE_THREADS = 16


class Coordinator:
    """What runs in the actor's process.

    Args:
        world: the simulation.
        cluster: whose coordinator it is.
        process: its process.

    Attributes:
        scheduler: the scheduler of runs, which is tested.
    """

    def __init__(self, world: World, cluster: Cluster, process: Process) -> None:
        resources = Resources(world, process)
        self._world = world
        self._cluster = cluster
        self._process = process
        self._store = resources.store
        self._catalog = Catalog(Registry(resources.store, pool=SerialPool), resources.store)
        self.scheduler = RunScheduler(
            resources.history,
            resources.datasets,
            cluster=cluster.id,
            catalog=self._catalog,
            replicas=SimReplicas(world, cluster, process, self._catalog),
            devices=lambda: ["cpu"],
            slots=lambda manifest, device: (manifest.max_replicas or 1) * manifest.runs_per_replica,
            limits=world.plan.run_limits,
            clock=resources.clock,
            executor=ThreadCount(STORE_THREADS),
            timings=world.plan.timings,
        )
        self._start: asyncio.Task[None] | None = None
        process.spawn(self._until_ready())

    async def ready(self) -> None:
        """Returns once open runs are taken up again."""
        if self._start is None or (self._start.done() and self._start.exception() is not None):
            self._start = asyncio.ensure_future(self._started())
        await asyncio.shield(self._start)

    async def runs(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call a method of `interface.Runs`."""
        await self.ready()
        answer = await getattr(self.scheduler, method)(**arguments)
        granted = answer.following if isinstance(answer, Receipt) else answer if method == "begin" else None
        if granted is not None:
            replica = arguments["replica"] if method == "begin" else arguments["attempt"].replica
            queue = QueueName(granted.algorithm, granted.version, granted.resolved_device)
            waiting = [run.run for run in self.scheduler._queues.waiting(queue)]
            self._world.grants.granted(self._process, self.scheduler._log.process, granted, replica, waiting)
        return answer

    async def release(self) -> None:
        """The cluster is shut down."""
        await self.ready()
        await self.scheduler.release()

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version, after its runs have ended or been cancelled."""
        await self.ready()
        record = self._catalog.find(name, version)
        registry = self._catalog.registry
        try:
            await self.scheduler.drain(name, version, cancel=cancel_runs)
            with suppress(AlgorithmNotFoundError, VersionNotFoundError):
                await asyncio.to_thread(registry.remove, name, version)
            await asyncio.to_thread(registry.discard, record)
            await self._cluster.remove_deployment(name)
            await self._catalog.refresh()
        finally:
            self.scheduler.reopen(name, version)

    async def _until_ready(self) -> None:
        while True:
            try:
                return await self.ready()
            except T3dError:  # the store may be back soon
                await asyncio.sleep(START_RETRY_S)

    async def _started(self) -> None:
        await asyncio.to_thread(self._store.prepare)
        await self._catalog.refresh()
        await self.scheduler.start()
