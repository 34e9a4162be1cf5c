"""Lanes: what waits for the replicas of one version on one device, and the calls that have replicas work on it.

A call is a shift: a replica that got it takes one item after the other, so that a busy lane costs no call for each.
There is at most one idle call for each waiting item, and no more calls than the replicas have slots: Serve's
autoscaler sees the load, and the rest waits here, in order, where it can be counted and taken back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from t3d_server.ids import new_id
from t3d_server.models import Device
from t3d_server.runs.line import Line

logger = logging.getLogger(__name__)

RETRY_S = 1.0
WATCH_S = 5.0
GIVE_UP_S = 60.0
"""What waits for a lane fails when for so long each replica of it has ended while it loaded."""
SHIFT_S = 10.0
"""A replica that is to be shut down waits for its calls: none takes item after item for longer than this."""

T = TypeVar("T")


class Lane(NamedTuple):
    """What shares a queue: the runs of one version on one device."""

    algorithm: str
    version: str
    device: Device


class ReplicaGoneError(Exception):
    """A call has ended with its replica, or has found none; its message is a sentence.

    Attributes:
        charged: whether what the replica worked on may have ended it.
        certain: whether the replica has ended; else it may only be out of reach, and work on.
    """

    def __init__(self, message: str, *, charged: bool = True, certain: bool = True) -> None:
        super().__init__(message)
        self.charged = charged
        self.certain = certain


class Dispatcher(Protocol):
    """Calls replicas, and ends them."""

    async def work(self, lane: Lane, call_id: str) -> None:
        """Have a replica of the lane work; returns, or raises, when that call has ended.

        The replica asks for a run by `Coordinator.begin`, delivers its outcome by `Coordinator.finish`, which may give
        it the next one, and returns when there is none. The end of the call says only that nothing more will come.

        Raises:
            ReplicaGoneError: the replica has ended, or the cluster has none now; any other error is one of the lane.
        """

    async def obstacle(self, lane: Lane) -> str | None:
        """Why replicas of the lane cannot load: each that has started lately has ended; None where that is not so."""

    async def shortage(self, lane: Lane) -> str | None:
        """What replicas of the lane wait for, which the cluster lacks or others have; None where that is not known."""

    async def is_gone(self, replica: str) -> bool:
        """Whether a replica has certainly ended."""

    async def kill(self, replica: str) -> None:
        """End a replica, whatever it does."""


T_contra = TypeVar("T_contra", contravariant=True)


class Owner(Protocol[T_contra]):
    """Whose items are in the lanes."""

    def begun(self, item: T_contra, replica: str) -> None:
        """A replica has taken an item."""

    async def lost(self, item: T_contra, replica: str, end: ReplicaGoneError) -> None:
        """The call in which a replica worked on an item has ended, and how; the item is in no lane any more."""

    def waits(self, lane: Lane, shortage: str | None) -> None:
        """Replicas of a lane have not come yet; what for, if that is known."""

    async def stuck(self, lane: Lane, reason: str) -> None:
        """No replica of a lane can load; its waiting items are to be taken out."""


@dataclass(eq=False)
class _Call(Generic[T]):
    """An open call: fresh until a replica begins, then working on an item or between two."""

    lane: Lane
    replica: str = ""
    item: T | None = None
    until: float = math.inf
    task: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        return self.until == math.inf


@dataclass(eq=False)
class _Queue(Generic[T]):
    """The waiting items of a lane, its open calls by id, and since when its replicas cannot load."""

    slots: int = 1
    waiting: Line[T] = field(default_factory=lambda: Line[T]())
    calls: dict[str, _Call[T]] = field(default_factory=dict)
    failing_since: float | None = None


class Lanes(Generic[T]):
    """Queues items and has replicas called for them; on one event loop.

    Args:
        dispatcher: calls replicas.
        owner: is told what becomes of its items.
    """

    def __init__(self, dispatcher: Dispatcher, owner: Owner[T]) -> None:
        self._dispatcher = dispatcher
        self._owner = owner
        self._queues: dict[Lane, _Queue[T]] = {}
        self._calls: dict[str, _Call[T]] = {}
        self._paused = False

    def add(self, lane: Lane, item: T, *, slots: int, first: bool = False) -> None:
        """Queue an item; `slots` is how many calls of the lane may be open at a time."""
        queue = self._queues.setdefault(lane, _Queue())
        queue.slots = slots
        (queue.waiting.put_first if first else queue.waiting.add)(item)
        self._balance(lane)

    def remove(self, lane: Lane, item: T) -> None:
        """Take an item back that may be waiting."""
        queue = self._queues.get(lane)
        if queue is not None and queue.waiting.remove(item):
            self._balance(lane)

    def clear(self) -> None:
        """Take all items back."""
        for lane, queue in list(self._queues.items()):
            queue.waiting = Line()
            self._balance(lane)

    def pause(self) -> None:
        """Let nothing begin until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Let what waits begin."""
        self._paused = False
        for lane in list(self._queues):
            self._balance(lane)

    def waiting(self, lane: Lane) -> list[T]:
        """What waits in a lane, in order."""
        queue = self._queues.get(lane)
        return list(queue.waiting) if queue else []

    def position(self, lane: Lane, item: T) -> int | None:
        """How many items of its lane wait before one; None if it does not wait."""
        queue = self._queues.get(lane)
        return None if queue is None else queue.waiting.position(item)

    def count(self, algorithm: str | None = None) -> int:
        """How many items wait, of one algorithm or of all."""
        return sum(len(queue.waiting) for lane, queue in self._queues.items() if algorithm in (None, lane.algorithm))

    def slots(self, algorithm: str) -> int:
        """How many items of an algorithm can be worked on at a time."""
        return sum(queue.slots for lane, queue in self._queues.items() if lane.algorithm == algorithm)

    def is_worked_on(self, lane: Lane) -> bool:
        """Whether a replica of the lane works on an item."""
        queue = self._queues.get(lane)
        return queue is not None and any(call.item is not None for call in queue.calls.values())

    def begin(self, call_id: str, replica: str) -> T | None:
        """A replica that was called asks for an item; asking again gives the same one.

        Args:
            call_id: the call.
            replica: name of the replica.

        Returns:
            The item, or None if there is nothing to do any more: also for a second replica, to which Serve sends the
            call where it has not heard that the first one took it. That one's item is lost with the call.
        """
        call = self._calls.get(call_id)
        if call is None:
            return None
        if call.is_fresh:
            self._queues[call.lane].failing_since = None
            call.replica = replica
            self._take(call)
            call.until = asyncio.get_running_loop().time() + SHIFT_S
        return call.item if call.replica == replica else None

    def next(self, call_id: str, is_done: Callable[[T], bool]) -> T | None:
        """A replica has done its item and asks for another one; asking again gives the same one.

        Args:
            call_id: the call.
            is_done: whether an item is the one that was done.

        Returns:
            The item, or None if the shift is over.
        """
        call = self._calls.get(call_id)
        if call is None:
            return None
        if call.item is None or is_done(call.item):
            self._take(call)
        return call.item

    def let_go(self, call_id: str, item: T) -> None:
        """A call does not work on an item any more, which may be queued again."""
        call = self._calls.get(call_id)
        if call is not None and call.item is item:
            call.item = None

    def free(self, replica: str) -> None:
        """A replica has ended: others may be called, though calls on it may be open for long after that."""
        for call_id, call in list(self._calls.items()):
            if call.replica == replica:
                self._close(call_id, call)

    def _take(self, call: _Call[T]) -> None:
        queue = self._queues[call.lane]
        over = asyncio.get_running_loop().time() > call.until
        call.item = None if over or self._paused else queue.waiting.take()
        if call.item is not None:
            self._owner.begun(call.item, call.replica)

    def _balance(self, lane: Lane) -> None:
        """Have an idle call for each waiting item as far as there are slots, and none that nothing waits for."""
        queue = self._queues.get(lane)
        if queue is None:
            return
        idle = [(call_id, call) for call_id, call in queue.calls.items() if call.item is None]
        for call_id, call in idle[len(queue.waiting) :]:
            if call.is_fresh and call.task is not None:
                # Forgotten here and now: a task that has not run yet would never come to do it.
                del queue.calls[call_id], self._calls[call_id]
                call.task.cancel()
        wanted = 0 if self._paused else len(queue.waiting) - len(idle)
        for _ in range(min(wanted, queue.slots - len(queue.calls))):
            call_id, call = new_id(), _Call[T](lane)
            self._calls[call_id] = queue.calls[call_id] = call
            call.task = asyncio.get_running_loop().create_task(self._call(call_id, call))
        if not queue.waiting and not queue.calls:
            del self._queues[lane]

    async def _call(self, call_id: str, call: _Call[T]) -> None:
        """One call, from dispatch to whatever becomes of it."""
        end, obstacle = ReplicaGoneError("the replica returned without an outcome"), None
        try:
            obstacle = await self._watched(call_id, call)
        except ReplicaGoneError as error:
            end = error
            if call.is_fresh:
                obstacle = await self._obstacle(call.lane)
        except Exception as error:  # noqa: BLE001  # whatever ended the call: its item is lost
            obstacle = f"{type(error).__name__}: {error}"
            end = ReplicaGoneError(obstacle)
        try:
            if call.is_fresh:
                await self._failed(call.lane, obstacle)
        finally:
            self._close(call_id, call)  # at once where it had an item: nobody is there to take another one
        if call.item is not None:
            await self._owner.lost(call.item, call.replica, end)

    def _close(self, call_id: str, call: _Call[T]) -> None:
        """Forget a call, and have the lane go on without it."""
        if self._calls.pop(call_id, None) is not None:
            del self._queues[call.lane].calls[call_id]
        self._balance(call.lane)

    async def _watched(self, call_id: str, call: _Call[T]) -> str | None:
        """The call itself; given up where replicas cannot load, and then returns why."""
        work = asyncio.ensure_future(self._dispatcher.work(call.lane, call_id))
        try:
            while call.is_fresh:
                done, _ = await asyncio.wait({work}, timeout=WATCH_S)
                if done:
                    break
                obstacle = await self._obstacle(call.lane)
                if call.is_fresh and obstacle is not None:
                    return obstacle
                if call.is_fresh:
                    await self._wait(call.lane)
            await work
        finally:
            work.cancel()
        return None

    async def _obstacle(self, lane: Lane) -> str | None:
        try:
            return await self._dispatcher.obstacle(lane)
        except Exception:  # the cluster may be busy with itself; it is asked again
            logger.exception("the cluster does not tell of the replicas of %s %s on %s", *lane)
            return None

    async def _wait(self, lane: Lane) -> None:
        """Replicas can load, as far as is known, and have not come yet: for them, what waits has time."""
        self._queues[lane].failing_since = None
        try:
            self._owner.waits(lane, await self._dispatcher.shortage(lane))
        except Exception:  # as above
            logger.exception("the cluster does not tell what room it has for %s %s on %s", *lane)

    async def _failed(self, lane: Lane, obstacle: str | None) -> None:
        """No replica has begun: the next one may do better, unless they cannot load; then not for ever."""
        queue = self._queues[lane]
        now = asyncio.get_running_loop().time()
        if obstacle is None:
            await self._wait(lane)
        else:
            queue.failing_since = queue.failing_since or now
            if now - queue.failing_since >= GIVE_UP_S:
                queue.failing_since = None
                await self._owner.stuck(lane, obstacle)
                return
        await asyncio.sleep(RETRY_S)
