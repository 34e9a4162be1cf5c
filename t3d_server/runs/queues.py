"""The queues of runs that wait: one for each version and device, each in order, with the place of each run."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

from t3d_server.runs.interface import QueueName
from t3d_server.runs.live_run import LiveRun


class RunQueue:
    """Runs that wait for the replicas of one version on one device.

    Each run has a number; its position follows from that of the first one, less those that have left in between.

    Attributes:
        slots: how many runs its replicas can work on at a time.
    """

    def __init__(self) -> None:
        self.slots = 1
        self._numbers: OrderedDict[LiveRun, int] = OrderedDict()
        self._left: list[int] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(self._numbers)

    def put(self, run: LiveRun) -> None:
        """Put a run last."""
        self._last += 1
        self._numbers[run] = self._last

    def put_first(self, run: LiveRun) -> None:
        """Put a run first."""
        self._numbers[run] = self._first() - 1
        self._numbers.move_to_end(run, last=False)

    def take(self) -> LiveRun | None:
        """Take the first run, if there is one."""
        if not self._numbers:
            return None
        run, _ = self._numbers.popitem(last=False)
        self._forget_left()
        return run

    def remove(self, run: LiveRun) -> bool:
        """Take a run out; whether it was there."""
        number = self._numbers.pop(run, None)
        if number is None:
            return False
        insort(self._left, number)
        self._forget_left()
        return True

    def position(self, run: LiveRun) -> int | None:
        """How many runs are before one; None if it is not there."""
        number = self._numbers.get(run)
        return None if number is None else number - self._first() - bisect_left(self._left, number)

    def _first(self) -> int:
        return next(iter(self._numbers.values()), self._last + 1)

    def _forget_left(self) -> None:
        """Keep the numbers of those alone that have left from behind the first one."""
        del self._left[: bisect_left(self._left, self._first())]


class Queues:
    """All queues, by name."""

    def __init__(self) -> None:
        self._queues: dict[QueueName, RunQueue] = {}

    def __iter__(self) -> Iterator[QueueName]:
        return iter(list(self._queues))

    def put(self, run: LiveRun, *, slots: int, first: bool = False) -> None:
        """Have a run wait; `slots` is how many runs its replicas can work on at a time."""
        queue = self._queues.setdefault(run.queue, RunQueue())
        queue.slots = slots
        (queue.put_first if first else queue.put)(run)

    def take(self, name: QueueName) -> LiveRun | None:
        """Take the first run of a queue, if there is one."""
        queue = self._queues.get(name)
        return None if queue is None else queue.take()

    def remove(self, run: LiveRun) -> bool:
        """Take a run out that may be waiting; whether it was."""
        queue = self._queues.get(run.queue)
        return queue is not None and queue.remove(run)

    def clear(self) -> None:
        """Take all runs out."""
        for queue in self._queues.values():
            for run in list(queue):
                queue.remove(run)

    def discard(self, name: QueueName) -> None:
        """Forget a queue that is empty."""
        if not self.waiting(name):
            self._queues.pop(name, None)

    def waiting(self, name: QueueName) -> list[LiveRun]:
        """What waits in a queue, in order."""
        queue = self._queues.get(name)
        return [] if queue is None else list(queue)

    def length(self, name: QueueName) -> int:
        """How many runs wait in a queue."""
        queue = self._queues.get(name)
        return 0 if queue is None else len(queue)

    def position(self, run: LiveRun) -> int | None:
        """How many runs of its queue are before one; None if it does not wait."""
        queue = self._queues.get(run.queue)
        return None if queue is None else queue.position(run)

    def count(self, algorithm: str | None = None) -> int:
        """How many runs wait, of one algorithm or of all."""
        return sum(len(queue) for name, queue in self._queues.items() if algorithm in (None, name.algorithm))

    def slots(self, algorithm: str | QueueName) -> int:
        """How many runs of an algorithm, or of one queue, can be worked on at a time."""
        return sum(queue.slots for name, queue in self._queues.items() if algorithm in (name.algorithm, name))
