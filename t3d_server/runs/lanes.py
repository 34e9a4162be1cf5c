"""Lanes: what waits for the replicas of one version on one device, and the calls that have replicas work on it.

A call is a shift: a replica that got it takes one item after the other, so that a busy lane costs no call for each.
There is at most one idle call for each waiting item, and no more calls than the replicas have slots: Serve's
autoscaler sees the load, and the rest waits here, in order, where it can be counted and taken back.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from t3d_server.ids import new_id
from t3d_server.models import Device

RETRY_S = 1.0
SHIFT_S = 10.0
"""A replica that is to be shut down waits for its calls: none takes item after item for longer than this."""

T = TypeVar("T")


class Lane(NamedTuple):
    """What shares a queue: the runs of one version on one device."""

    algorithm: str
    version: str
    device: Device


class Dispatcher(Protocol):
    """Calls replicas."""

    async def work(self, lane: Lane, call_id: str) -> None:
        """Have a replica of the lane work; returns, or raises, when that call has ended.

        The replica asks for a run by `Coordinator.begin`, delivers its outcome by `Coordinator.finish`, which may give
        it the next one, and returns when there is none. The end of the call says only that nothing more will come.
        """


@dataclass(eq=False)
class _Call(Generic[T]):
    """An open call: fresh until a replica begins, then working on an item or between two."""

    lane: Lane
    item: T | None = None
    until: float = math.inf
    task: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        return self.until == math.inf


@dataclass(eq=False)
class _Queue(Generic[T]):
    """The waiting items of a lane, and its open calls by id."""

    slots: int = 1
    waiting: deque[T] = field(default_factory=deque)
    calls: dict[str, _Call[T]] = field(default_factory=dict)


class Lanes(Generic[T]):
    """Queues items and has replicas called for them; on one event loop.

    Args:
        dispatcher: calls replicas.
        lost: is awaited with an item, and the reason, when the call that worked on it has ended, or when a call for
            it failed before a replica began; the item is in no lane then.
    """

    def __init__(self, dispatcher: Dispatcher, lost: Callable[[T, str], Awaitable[None]]) -> None:
        self._dispatcher = dispatcher
        self._lost = lost
        self._queues: dict[Lane, _Queue[T]] = {}
        self._calls: dict[str, _Call[T]] = {}

    def add(self, lane: Lane, item: T, *, slots: int) -> None:
        """Queue an item; `slots` is how many calls of the lane may be open at a time."""
        queue = self._queues.setdefault(lane, _Queue())
        queue.slots = slots
        queue.waiting.append(item)
        self._balance(lane)

    def remove(self, lane: Lane, item: T) -> None:
        """Take an item back that may be waiting."""
        queue = self._queues.get(lane)
        if queue is not None and item in queue.waiting:
            queue.waiting.remove(item)
            self._balance(lane)

    def waiting(self, lane: Lane) -> list[T]:
        """What waits in a lane, in order."""
        queue = self._queues.get(lane)
        return list(queue.waiting) if queue else []

    def position(self, lane: Lane, item: T) -> int | None:
        """How many items wait before this one; None if it does not wait."""
        queue = self._queues.get(lane)
        return queue.waiting.index(item) if queue is not None and item in queue.waiting else None

    def begin(self, call_id: str) -> T | None:
        """A replica that was called asks for an item; None if there is nothing to do any more."""
        call = self._calls.get(call_id)
        if call is None or not call.is_fresh:
            return None
        item = self._take(call)
        call.until = asyncio.get_running_loop().time() + SHIFT_S
        return item

    def next(self, call_id: str) -> T | None:
        """A replica has done its item and asks for another one; None if its shift is over."""
        call = self._calls.get(call_id)
        return None if call is None else self._take(call)

    def _take(self, call: _Call[T]) -> T | None:
        queue = self._queues[call.lane]
        over = asyncio.get_running_loop().time() > call.until
        call.item = None if over or not queue.waiting else queue.waiting.popleft()
        return call.item

    def _balance(self, lane: Lane) -> None:
        """Have an idle call for each waiting item as far as there are slots, and none that nothing waits for."""
        queue = self._queues.get(lane)
        if queue is None:
            return
        idle = [call for call in queue.calls.values() if call.item is None]
        for call in idle[len(queue.waiting) :]:
            if call.is_fresh and call.task is not None:
                call.task.cancel()
        for _ in range(min(len(queue.waiting) - len(idle), queue.slots - len(queue.calls))):
            call_id, call = new_id(), _Call[T](lane)
            self._calls[call_id] = queue.calls[call_id] = call
            call.task = asyncio.get_running_loop().create_task(self._call(call_id, call))
        if not queue.waiting and not queue.calls:
            del self._queues[lane]

    async def _call(self, call_id: str, call: _Call[T]) -> None:
        """One call, from dispatch to whatever becomes of it."""
        failure = None
        with suppress(asyncio.CancelledError):  # by `_balance`: nothing waits for it any more
            try:
                await self._dispatcher.work(call.lane, call_id)
            except Exception as error:  # noqa: BLE001  # whatever ended the call: its item is lost
                failure = f"{type(error).__name__}: {error}"
                if call.is_fresh:
                    await asyncio.sleep(RETRY_S)  # a replica may be on its way
        queue = self._queues[call.lane]
        del self._calls[call_id], queue.calls[call_id]
        item = call.item
        if item is None and failure is not None and call.is_fresh and queue.waiting:
            item = queue.waiting.popleft()
        if item is not None:
            await self._lost(item, failure or "the replica returned without an outcome")
        self._balance(call.lane)
