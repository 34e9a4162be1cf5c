"""The coordinator's process as Ray keeps it: started again as often as it dies, and calls are repeated."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from t3d_server.errors import T3dError
from tests.simulation.coordinator import Coordinator
from tests.simulation.processes import PROCESS, Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World


class Call:
    """A call of the actor: it is repeated until it is answered.

    Args:
        actor: who is called.
        method: a method of `Coordinator`.
        arguments: its arguments.
    """

    def __init__(self, actor: Actor, method: str, arguments: dict[str, Any]) -> None:
        self.actor = actor
        self.method = method
        self.future: asyncio.Future[Any] = actor.world.loop.create_future()
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.tasks: list[asyncio.Task[Any]] = []
        self._world = actor.world
        self._arguments = arguments
        self._caller = PROCESS.get()
        self._answered = False
        actor.calls[self] = None
        self._world.loop.later(self._world.latency_s(), self.arrive)

    def arrive(self) -> None:
        """It reaches the actor, or waits until that is started."""
        actor = self.actor
        if self._answered or actor.is_gone:
            return
        if actor.is_up:
            self._world.loop.later(0.0, self._begin, actor.process, process=actor.process)
        elif self not in actor.waiting:
            actor.waiting.append(self)

    def cancel(self) -> None:
        """The caller does not wait any more."""
        for task in self.tasks:
            self._world.loop.later(self._world.latency_s(), task.cancel, process=self.actor.process)

    def _begin(self, process: Process) -> None:
        if not self._answered:
            self.tasks.append(process.spawn(self._execute()))

    async def _execute(self) -> None:
        world, process, result = self._world, self.actor.process, None
        error: Exception | None = None
        assert self.actor.coordinator is not None
        try:
            result = await getattr(self.actor.coordinator, self.method)(**self._arguments)
        except asyncio.CancelledError:
            error = RuntimeError("the call was cancelled")
        except T3dError as raised:
            error = raised
        except Exception as raised:
            what = self._arguments.get("method", self.method)
            if not process.alive:  # it is collected as garbage
                return
            world.findings.violation("internal-error", f"{what} raised {type(raised).__name__}: {raised}")
            error = raised
        if world.rngs["calls"].random() < world.faults.answer_lost:
            world.trace("call", f"the answer to {self._arguments.get('method', self.method)} is lost: called again")
            world.loop.later(world.rngs["calls"].uniform(0.01, 3.0), self.arrive)
            return
        world.loop.later(world.latency_s(), self._answer, result, error, process=self._caller)

    def _answer(self, result: Any, error: Exception | None) -> None:
        self._answered = True
        self.actor.calls.pop(self, None)
        if not self.future.done():
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)


class Actor:
    """The actor.

    Args:
        world: the simulation.
        cluster: whose coordinator it is.

    Attributes:
        coordinator: what runs in its process.
        process: its present process.
        is_up: whether it takes calls.
        is_gone: whether it has ended for good.
        calls: those that are not answered.
        waiting: those of them that wait for its start.
    """

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.world = world
        self.coordinator: Coordinator | None = None
        self.is_up = self.is_gone = False
        self.calls: dict[Call, None] = {}
        self.waiting: deque[Call] = deque()
        self._cluster = cluster
        self._starts = 0
        self.process = self._boot()

    async def call(self, method: str, /, **arguments: Any) -> Any:
        """Call a method of the coordinator; returns with its answer."""
        call = Call(self, method, arguments)
        try:
            return await asyncio.shield(call.future)
        except asyncio.CancelledError:
            if arguments.get("method") in ("get", "news"):
                call.cancel()
            raise

    def crash(self, down_s: float) -> None:
        """Its process dies, and is started again."""
        self.world.trace("proc", f"{self.process.name} crashes")
        self.process.kill()
        self._cluster.forget_calls_of(self.process)
        if self.is_up:
            self.is_up = False
            for call in self.calls:
                call.tasks.clear()
                if call not in self.waiting:
                    self.waiting.append(call)
        self.world.loop.later(down_s, self._reboot)

    def end(self) -> None:
        """End for good."""
        self.is_gone, self.is_up = True, False
        self.process.kill()

    def _reboot(self) -> None:
        if not self.is_gone:
            self.process = self._boot()

    def _boot(self) -> Process:
        self._starts += 1
        cluster = self._cluster
        name = f"{cluster.name}.coordinator{self._starts}"
        process = Process(self.world.loop, name, cluster.id, cluster.skew_s)
        self.world.trace("proc", f"{name} starts")
        self.world.record.coordinator_started(cluster.id)
        process.spawn(self._start(process))
        return process

    async def _start(self, process: Process) -> None:
        self.coordinator = Coordinator(self.world, self._cluster, process)
        self.is_up = True
        while self.waiting:
            self.world.loop.later(self.world.latency_s(), self.waiting.popleft().arrive)
