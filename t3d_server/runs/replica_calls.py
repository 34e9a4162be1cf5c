"""The calls that have replicas work on runs: as many as there is work for, and what becomes of each.

A replica that got a call takes one run after the other for some seconds, so that a busy queue costs no call for each
run. There is at most one idle call for each waiting run, and no more calls than the replicas have slots: Serve's
autoscaler sees the load, and the rest waits in its queue, where it can be counted and taken out.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from t3d_server.ids import new_id
from t3d_server.run_store.timings import Timings
from t3d_server.runs.interface import AttemptKey, QueueName
from t3d_server.runs.live_run import LiveRun
from t3d_server.runs.queues import Queues

logger = logging.getLogger(__name__)


class ReplicaGoneError(Exception):
    """A call has ended with its replica, or has found none; its message is a sentence.

    Attributes:
        charged: whether the run that the replica worked on may have ended it.
        certain: whether the replica has ended; else it may only be out of reach, and work on.
    """

    def __init__(self, message: str, *, charged: bool = True, certain: bool = True) -> None:
        super().__init__(message)
        self.charged = charged
        self.certain = certain


class Replicas(Protocol):
    """Calls replicas, and ends them."""

    async def work(self, queue: QueueName, call_id: str) -> None:
        """Have a replica of the queue work; returns, or raises, when that call has ended.

        The replica asks for a run by `Runs.begin`, delivers its outcome by `Runs.finish`, which may give it the next
        one, and returns when there is none. The end of the call means only that nothing more will come.

        Raises:
            ReplicaGoneError: the replica has ended, or the cluster has none now; any other error is one of the queue.
        """

    async def obstacle(self, queue: QueueName) -> str | None:
        """Why replicas cannot load: each that has started lately has ended; None where that is not so."""

    async def shortage(self, queue: QueueName) -> str | None:
        """What replicas wait for, which the cluster lacks or others have; None where that is not known."""

    async def is_gone(self, replica: str) -> bool:
        """Whether a replica has certainly ended."""

    async def kill(self, replica: str) -> None:
        """End a replica, whatever it does."""


@dataclass(eq=False)
class _Call:
    """An open call: fresh until a replica begins, then at work on a run or between two."""

    queue: QueueName
    replica: str = ""
    run: LiveRun | None = None
    until_s: float = math.inf
    task: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        return self.until_s == math.inf


class ReplicaCalls:
    """Keeps as many calls open as there is work for; on one event loop.

    Args:
        replicas: calls replicas.
        queues: what waits.
        timings: how long what takes.
        begun: a replica has taken a run.
        lost: the call has ended in which a replica worked on a run, and how.
        waits: replicas of a queue have not come yet; what for, if that is known.
        stuck: no replica of a queue can load; what waits is to be taken out.
    """

    def __init__(
        self,
        replicas: Replicas,
        queues: Queues,
        timings: Timings,
        *,
        begun: Callable[[LiveRun, str], None],
        lost: Callable[[LiveRun, str, ReplicaGoneError], Awaitable[None]],
        waits: Callable[[QueueName, str | None], None],
        stuck: Callable[[QueueName, str], None],
    ) -> None:
        self._replicas = replicas
        self._queues = queues
        self._timings = timings
        self._begun = begun
        self._lost = lost
        self._waits = waits
        self._stuck = stuck
        self._calls: dict[str, _Call] = {}
        self._of: dict[QueueName, dict[str, _Call]] = {}
        self._failing_since_s: dict[QueueName, float] = {}
        self._holds: set[str] = set()

    def hold(self, reason: str) -> None:
        """Let nothing begin until this reason is gone."""
        self._holds.add(reason)

    def unhold(self, reason: str) -> None:
        """Let what waits begin, as far as this reason is concerned."""
        self._holds.discard(reason)
        for queue in self._queues:
            self.balance(queue)

    def is_worked_on(self, queue: QueueName) -> bool:
        """Whether a replica of the queue works on a run."""
        return any(call.run is not None for call in self._of.get(queue, {}).values())

    def begin(self, call_id: str, replica: str) -> LiveRun | None:
        """A replica that was called asks for a run; asking again gives the same one.

        Returns:
            The run, or None if there is nothing to do any more: also for a second replica, to which Serve sends the
            call where it has not heard that the first one took it. That one's run is lost with the call.
        """
        call = self._calls.get(call_id)
        if call is None:
            return None
        if call.is_fresh:
            self._failing_since_s.pop(call.queue, None)
            call.replica = replica
            self._take(call)
            call.until_s = asyncio.get_running_loop().time() + self._timings.call_s
        return call.run if call.replica == replica else None

    def next(self, call_id: str, attempt: AttemptKey) -> LiveRun | None:
        """A replica has done an attempt and asks for another run; asking again gives the same one."""
        call = self._calls.get(call_id)
        if call is None or call.replica != attempt.replica:
            return None
        if call.run is None or (call.run.run.id == attempt.run_id and call.run.attempt in (None, attempt)):
            self._take(call)
        return call.run

    def let_go(self, call_id: str, run: LiveRun) -> None:
        """A call does not work on a run any more, which may be queued again."""
        call = self._calls.get(call_id)
        if call is not None and call.run is run:
            call.run = None

    def replica_ended(self, replica: str) -> None:
        """A replica has ended: others may be called, though calls on it may be open for long after that."""
        for call_id, call in list(self._calls.items()):
            if call.replica == replica:
                self._close(call_id, call)

    def balance(self, queue: QueueName) -> None:
        """Have an idle call for each waiting run as far as there are slots, and none that nothing waits for."""
        calls = self._of.setdefault(queue, {})
        waiting = self._queues.length(queue)
        idle = [(call_id, call) for call_id, call in calls.items() if call.run is None]
        for call_id, call in idle[waiting:]:
            if call.is_fresh and call.task is not None:
                # Forgotten here and now: a task that has not run yet would never come to do it.
                del calls[call_id], self._calls[call_id]
                call.task.cancel()
        wanted = 0 if self._holds else waiting - len(idle)
        for _ in range(min(wanted, self._queues.slots(queue) - len(calls))):
            call_id, call = new_id(), _Call(queue)
            self._calls[call_id] = calls[call_id] = call
            call.task = asyncio.get_running_loop().create_task(self._call(call_id, call))
        if not waiting and not calls:
            del self._of[queue]
            self._failing_since_s.pop(queue, None)
            self._queues.discard(queue)

    def _take(self, call: _Call) -> None:
        over = asyncio.get_running_loop().time() > call.until_s
        call.run = None if over or self._holds else self._queues.take(call.queue)
        if call.run is not None:
            self._begun(call.run, call.replica)

    async def _call(self, call_id: str, call: _Call) -> None:
        """One call, from its dispatch to whatever becomes of it."""
        end, obstacle = ReplicaGoneError("the replica returned without an outcome"), None
        try:
            obstacle = await self._watched(call_id, call)
        except ReplicaGoneError as error:
            end = error
            if call.is_fresh:
                obstacle = await self._obstacle(call.queue)
        except Exception as error:  # noqa: BLE001  # whatever ended the call: its run is lost
            obstacle = f"{type(error).__name__}: {error}"
            end = ReplicaGoneError(obstacle)
        try:
            if call.is_fresh:
                await self._failed(call.queue, obstacle)
        finally:
            self._close(call_id, call)  # at once where it had a run: nobody is there to take another one
        if call.run is not None:
            await self._lost(call.run, call.replica, end)

    def _close(self, call_id: str, call: _Call) -> None:
        """Forget a call, and have the queue go on without it."""
        if self._calls.pop(call_id, None) is not None:
            del self._of[call.queue][call_id]
        self.balance(call.queue)

    async def _watched(self, call_id: str, call: _Call) -> str | None:
        """The call itself; given up where replicas cannot load, and then returns why."""
        work = asyncio.ensure_future(self._replicas.work(call.queue, call_id))
        try:
            while call.is_fresh:
                done, _ = await asyncio.wait({work}, timeout=self._timings.call_watch_s)
                if done:
                    break
                obstacle = await self._obstacle(call.queue)
                if call.is_fresh and obstacle is not None:
                    return obstacle
                if call.is_fresh:
                    await self._wait(call.queue)
            await work
        finally:
            work.cancel()
        return None

    async def _obstacle(self, queue: QueueName) -> str | None:
        try:
            return await self._replicas.obstacle(queue)
        except Exception:  # the cluster may be busy with itself; it is asked again
            logger.exception("the cluster does not tell of the replicas of %s %s on %s", *queue)
            return None

    async def _wait(self, queue: QueueName) -> None:
        """Replicas can load, as far as is known, and have not come yet: for them, what waits has time."""
        self._failing_since_s.pop(queue, None)
        try:
            self._waits(queue, await self._replicas.shortage(queue))
        except Exception:  # as above
            logger.exception("the cluster does not tell what room it has for %s %s on %s", *queue)

    async def _failed(self, queue: QueueName, obstacle: str | None) -> None:
        """No replica has begun: the next one may do better, unless they cannot load; then not for ever."""
        now_s = asyncio.get_running_loop().time()
        if obstacle is None:
            await self._wait(queue)
        elif now_s - self._failing_since_s.setdefault(queue, now_s) >= self._timings.give_up_s:
            del self._failing_since_s[queue]
            self._stuck(queue, obstacle)
            return
        await asyncio.sleep(self._timings.call_retry_s)
