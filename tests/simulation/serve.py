"""A model of Ray Serve: deployments with replicas that come with the load, go without it, and die."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from t3d_server.models import Manifest
from t3d_server.runs.replica_calls import ReplicaGoneError
from tests.simulation.processes import Process
from tests.simulation.replica import ReplicaHost

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World


class Request:
    """A call of a deployment: it waits for a replica, is worked on, and ends.

    Args:
        deployment: what is called.
        call_id: the call.
        caller: the coordinator's process.

    Attributes:
        future: done when it has ended.
        replica: where it was sent.
        is_over: whether it has ended, or was cancelled.
    """

    def __init__(self, deployment: Deployment, call_id: str, caller: Process) -> None:
        self.call_id = call_id
        self.caller = caller
        self.replica: ReplicaHost | None = None
        self.is_over = False
        self._world = deployment.world
        self._deployment = deployment
        self._task: asyncio.Task[None] | None = None
        self.future: asyncio.Future[None] = self._world.loop.create_future()
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())

    def cancel(self) -> None:
        """The caller does not want it any more."""
        if self.replica is None:
            self.is_over = True
        elif self._task is not None:
            self._world.loop.later(self._world.latency_s(), self._task.cancel, process=self.replica.process)

    def assign(self, replica: ReplicaHost) -> None:
        """Send it to a replica."""
        self.replica = replica
        replica.ongoing[self] = None
        self._world.loop.later(self._world.latency_s(), self._begin, replica, process=replica.process)

    def end(self, error: Exception | None, after_s: float) -> None:
        """It has ended, as the caller notices after some time."""
        if not self.is_over:
            self.is_over = True
            self._world.loop.later(after_s, self._resolve, error, process=self.caller)

    def _begin(self, replica: ReplicaHost) -> None:
        self._task = replica.process.spawn(self._work(replica))

    async def _work(self, replica: ReplicaHost) -> None:
        error: Exception | None = None
        assert replica.worker is not None
        try:
            await replica.worker.work(self.call_id)
        except asyncio.CancelledError:
            error = RuntimeError("the call was cancelled")
        except Exception as raised:
            self._world.findings.count(f"work raised {type(raised).__name__}: {raised}")
            error = raised
        replica.ongoing.pop(self, None)
        replica.idle_since_s = self._world.loop.now_s
        self._deployment.pump()
        self.end(error, self._world.latency_s())

    def _resolve(self, error: Exception | None) -> None:
        if not self.future.done():
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(None)


class Deployment:
    """One version on one device.

    Args:
        world: the simulation.
        cluster: where it is.
        manifest: of the version.

    Attributes:
        replicas: by name.
        failures: how many replicas have ended while they loaded, since one has come.
    """

    def __init__(self, world: World, cluster: Cluster, manifest: Manifest) -> None:
        self.world = world
        self.cluster = cluster
        self.manifest = manifest
        self.replicas: dict[str, ReplicaHost] = {}
        self.failures = 0
        self._waiting: list[Request] = []
        self._is_removed = self._is_growing = False

    def send(self, call_id: str, caller: Process) -> Request:
        """Call it."""
        request = Request(self, call_id, caller)
        if self._is_removed:
            request.end(ReplicaGoneError("Ray Serve has no replica: the application was removed"), 0.05)
        else:
            self._waiting.append(request)
            self.world.loop.later(self.world.latency_s(), self.pump)
        return request

    def pump(self) -> None:
        """Send what waits to replicas that are free, and have more of them come."""
        rng = self.world.rngs["serve"]
        if self._is_removed:
            return
        slots = self.manifest.runs_per_replica
        self._waiting = [request for request in self._waiting if not request.is_over and request.caller.alive]
        while self._waiting:
            free = [each for each in self.replicas.values() if each.is_ready and len(each.ongoing) < slots]
            if not free:
                break
            self._assign(self._waiting.pop(0), rng.choice(free))
        if len(self.replicas) < self._wanted() and not self._is_growing:
            self._is_growing = True
            self.world.loop.later(rng.uniform(0.2, 2.0) + (5.0 if self.failures > 3 else 0.0), self._grow)

    def forget_calls_of(self, caller: Process) -> None:
        """A process has died, and what it has called waits no more."""
        self._waiting = [request for request in self._waiting if request.caller is not caller]

    def shrink(self) -> None:
        """End replicas that have had nothing to do for long."""
        now_s = self.world.loop.now_s
        for replica in list(self.replicas.values()):
            is_idle = replica.is_ready and not replica.ongoing and not self._waiting
            if is_idle and now_s - replica.idle_since_s > self.world.plan.idle_s:
                replica.die("it was scaled down", notice_s=0.1)

    async def remove(self) -> None:
        """Remove it, with its replicas once they have nothing to do."""
        self._is_removed = True
        for request in self._waiting:
            request.end(ReplicaGoneError("Ray Serve has no replica: the application was removed"), 0.05)
        for _ in range(100):
            if not any(replica.ongoing for replica in self.replicas.values()):
                break
            await asyncio.sleep(0.2)
        for replica in list(self.replicas.values()):
            replica.die("its application was removed")

    def _assign(self, request: Request, replica: ReplicaHost) -> None:
        world, rng = self.world, self.world.rngs["serve"]
        request.assign(replica)
        if rng.random() < world.faults.sent_twice:
            others = [each for each in self.replicas.values() if each.is_ready and each is not replica]
            if others:
                world.trace("serve", f"call {request.call_id[-6:]} is sent to a second replica")
                world.loop.later(rng.uniform(0.0, 1.0), request.assign, rng.choice(others))
        if rng.random() < world.faults.unreachable:
            world.loop.later(rng.uniform(0.0, 3.0), self._lose_sight, request)

    def _wanted(self) -> int:
        load = len(self._waiting) + sum(len(each.ongoing) for each in self.replicas.values())
        return min(self.manifest.max_replicas or 1, -(-load // self.manifest.runs_per_replica))

    def _grow(self) -> None:
        self._is_growing = False
        if self._is_removed or self.cluster.is_dead:
            return
        if len(self.replicas) < self._wanted():
            name = f"SERVE_REPLICA::{self.manifest.name}#{self.cluster.name}{self.world.next_number():04d}"
            self.replicas[name] = self.cluster.named[name] = ReplicaHost(self.world, self, name)
        self.pump()

    def _lose_sight(self, request: Request) -> None:
        if request.replica is not None and not request.is_over:
            self.world.trace("serve", f"call {request.call_id[-6:]}: its replica seems to be out of reach")
            request.end(ReplicaGoneError("its replica cannot be reached: keepalive timeout", certain=False), 0.0)
