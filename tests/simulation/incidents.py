"""What happens to processes, machines and the store, at times that a seed gives."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from t3d_server.errors import T3dError

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

RELEASE_S = 15.0


class Incidents:
    """Schedules incidents.

    Args:
        world: the simulation.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def schedule(self, begin_s: float, end_s: float) -> None:
        """Have all incidents of the seed happen between two times."""
        acts: dict[str, Callable[[random.Random, Cluster], None]] = {
            "coordinator_crashes": self._crash_coordinator,
            "router_crashes": self._crash_router,
            "replica_crashes": self._crash_replica,
            "node_losses": self._lose_node,
            "cluster_kills": self._kill_cluster,
            "cluster_stops": self._stop_cluster,
            "coordinator_pauses": self._pause_coordinator,
            "machine_pauses": lambda rng, cluster: self._pause_machine(rng, cluster, sleeps=False),
            "suspends": lambda rng, cluster: self._pause_machine(rng, cluster, sleeps=True),
            "outages": lambda rng, cluster: self._outage(rng, ""),
            "partitions": lambda rng, cluster: self._outage(rng, cluster.id),
        }
        world = self._world
        for name, act in acts.items():
            rng = random.Random(f"{world.seed}/incident/{name}")
            for _ in range(getattr(world.drawn, name)):
                at_s, private = rng.uniform(begin_s, end_s), random.Random(rng.random())
                world.loop.later(at_s, self._happen, act, private)

    def _happen(self, act: Callable[[random.Random, Cluster], None], rng: random.Random) -> None:
        living = self._world.living()
        if self._world.is_faulty and living:
            act(rng, rng.choice(living))

    def _crash_coordinator(self, rng: random.Random, cluster: Cluster) -> None:
        if cluster.actor.process.alive:
            cluster.actor.crash(rng.choice([0.3, 1.0, 4.0, 12.0]))

    def _crash_router(self, rng: random.Random, cluster: Cluster) -> None:
        if cluster.router.is_up:
            cluster.router.crash(rng.uniform(0.5, 3.0))

    def _crash_replica(self, rng: random.Random, cluster: Cluster) -> None:
        if cluster.named:
            rng.choice(list(cluster.named.values())).die("its process ended with the exit code 9")

    def _lose_node(self, rng: random.Random, cluster: Cluster) -> None:
        text = rng.choice(["its node has died", "its node was preempted"])
        for replica in list(cluster.named.values()):
            replica.die(text, notice_s=rng.uniform(0.5, 12.0))

    def _kill_cluster(self, rng: random.Random, cluster: Cluster) -> None:
        cluster.kill()
        self._world.loop.later(rng.choice([0.5, 3.0, 20.0, 40.0]), self._world.start_cluster, cluster.name + "'")

    def _stop_cluster(self, rng: random.Random, cluster: Cluster) -> None:
        stop = self._stopped(cluster, rng.choice([0.5, 3.0, 20.0]))
        self._world.loop.create_task(stop, context=contextvars.Context())

    async def _stopped(self, cluster: Cluster, next_s: float) -> None:
        world = self._world
        world.trace("proc", f"cluster {cluster.name} is to stop")
        try:
            async with asyncio.timeout(RELEASE_S):
                await cluster.actor.call("release")
        except (T3dError, TimeoutError) as error:
            world.trace("proc", f"release: {type(error).__name__} {error}")
        if not cluster.is_dead:
            cluster.kill()
            world.loop.later(next_s, world.start_cluster, cluster.name + "'")

    def _pause_coordinator(self, rng: random.Random, cluster: Cluster) -> None:
        process, for_s = cluster.actor.process, rng.choice([1.0, 5.0, 12.0, 20.0, 40.0])
        if process.alive:
            self._world.trace("proc", f"{process.name} stands still for {for_s} s")
            self._world.record.paused(cluster.id, for_s)
            process.pause(for_s, sleeps=False)

    def _pause_machine(self, rng: random.Random, cluster: Cluster, *, sleeps: bool) -> None:
        cluster.pause(rng.choice([5.0, 14.0, 20.0, 40.0]), sleeps=sleeps)

    def _outage(self, rng: random.Random, site: str) -> None:
        for_s = rng.choice([0.5, 4.0, 12.0, 25.0])
        self._world.trace("store", f"away for {for_s} s" + (f" from {site}" if site else ""))
        self._world.outages.begin(for_s, site, rng.choice([0.01, 5.0, 10.0]))
