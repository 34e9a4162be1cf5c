"""A cluster: the coordinator's actor, a router, and deployments."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3d_server.api.service import Limits, Service
from t3d_server.models import Manifest
from t3d_server.packages.registry import Registry
from tests.simulation.actors import Actor
from tests.simulation.processes import Process
from tests.simulation.remote import SimPublishing, SimRuns
from tests.simulation.replica import ReplicaHost
from tests.simulation.resources import Resources, SerialPool
from tests.simulation.serve import Deployment

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK_S = 3.0
MAX_RUN_S = 60.0


class Cluster:
    """A cluster.

    Args:
        world: the simulation.
        name: its name in the trace.
        number: makes its id unique.

    Attributes:
        id: its id.
        skew_s: how far the clock of its first machine is ahead.
        deployments: by the name of the algorithm.
        named: the replicas whose names have not ended.
        is_dead: whether it has no process any more.
    """

    def __init__(self, world: World, name: str, number: int) -> None:
        self.name = name
        self.id = f"cluster-{name}-{number}"
        self.skew_s = world.skew_s()
        self.deployments: dict[str, Deployment] = {}
        self.named: dict[str, ReplicaHost] = {}
        self.is_dead = False
        self._world = world
        self.actor = Actor(world, self)
        self.router = Router(world, self)
        world.loop.later(TICK_S, self._tick)

    def deploy(self, manifest: Manifest) -> None:
        """Serve a version."""
        self.deployments.setdefault(manifest.name, Deployment(self._world, self, manifest))

    async def remove_deployment(self, name: str) -> None:
        """Serve a version no more."""
        if (deployment := self.deployments.get(name)) is not None:
            await deployment.remove()
            self.deployments.pop(name, None)

    def forget_calls_of(self, caller: Process) -> None:
        """A process has died, and what it has called waits no more."""
        for deployment in self.deployments.values():
            deployment.forget_calls_of(caller)

    def pause(self, for_s: float, *, sleeps: bool) -> None:
        """The whole machine stands still, or sleeps."""
        self._world.trace("proc", f"cluster {self.name} {'sleeps' if sleeps else 'stands still'} for {for_s:.1f} s")
        self._world.record.paused(self.id, for_s)
        for process in (self.actor.process, self.router.process, *(each.process for each in self.named.values())):
            if process.alive:
                process.pause(for_s, sleeps=sleeps)

    def kill(self) -> None:
        """Power off."""
        self._world.trace("proc", f"cluster {self.name} dies")
        self.is_dead = True
        self.actor.end()
        self.router.end()
        for replica in self.named.values():
            replica.process.kill()
        self.named.clear()

    def _tick(self) -> None:
        if not self.is_dead:
            for deployment in self.deployments.values():
                deployment.shrink()
                deployment.pump()
            self._world.loop.later(TICK_S, self._tick)


class Router:
    """The process that serves clients.

    Args:
        world: the simulation.
        cluster: where it is.

    Attributes:
        is_up: whether it takes requests.
        process: its present process.
        service: the operations, which are tested.
        requests: what clients wait for.
    """

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.requests: dict[asyncio.Future[Any], None] = {}
        self._world = world
        self._cluster = cluster
        self._starts = 0
        self._boot()

    def crash(self, down_s: float) -> None:
        """Its process dies, and is started again."""
        self.end()
        self._world.loop.later(down_s, self._reboot)

    def end(self) -> None:
        """Its process dies."""
        self._world.trace("proc", f"{self.process.name} ends")
        self.is_up = False
        self.process.kill()
        for future in list(self.requests):
            if not future.done():
                future.set_exception(ConnectionError("the connection broke"))
        self.requests.clear()

    def _reboot(self) -> None:
        if not self._cluster.is_dead:
            self._boot()

    def _boot(self) -> None:
        self._starts += 1
        cluster = self._cluster
        self.process = Process(self._world.loop, f"{cluster.name}.router{self._starts}", cluster.id, cluster.skew_s)
        resources = Resources(self._world, self.process)
        self.service = Service(
            datasets=resources.datasets,
            registry=Registry(resources.store, pool=SerialPool),
            history=resources.history,
            store=resources.store,
            runs=SimRuns(cluster.actor),
            publishing=SimPublishing(cluster.actor),
            scratch=Path("/nowhere"),
            limits=Limits(1 << 30, 1 << 30, MAX_RUN_S),
        )
        self.is_up = True
