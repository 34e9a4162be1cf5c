"""Simulated processes: what runs in the context of one stops while it is paused, and is dropped when it is killed."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.loop import SimLoop
    from tests.simulation.threads import Job

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("simulated_process", default=None)
"""The process of what runs on the event loop; None for clients, the store and the faults."""


class Died(BaseException):
    """Raised in threads of a process that was killed."""


@dataclass(eq=False)
class Pool:
    """The threads of one executor of a process.

    Attributes:
        free: how many have nothing to do.
        waiting: jobs that wait for one.
    """

    free: int
    waiting: deque[Job] = field(default_factory=deque)


class Process:
    """A process.

    Args:
        loop: the event loop of the simulation.
        name: its name in the trace.
        site: id of its cluster, which may be cut off from the store; "" for none.
        skew_s: how far its wall clock is ahead.

    Attributes:
        alive: whether it was not killed.
        paused_until_s: nothing of it runs before.
        slept_s: how long its monotonic clock stood still.
    """

    def __init__(self, loop: SimLoop, name: str, site: str = "", skew_s: float = 0.0) -> None:
        self.loop = loop
        self.name = name
        self.site = site
        self.skew_s = skew_s
        self.alive = True
        self.paused_until_s = 0.0
        self.slept_s = 0.0
        self.context = contextvars.Context()
        self.context.run(PROCESS.set, self)
        self.jobs: set[Job] = set()
        self.pools: dict[int, Pool] = {}

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task in this process."""
        return self.loop.create_task(work, context=self.context.copy())

    def pause(self, for_s: float, *, sleeps: bool) -> None:
        """Stop for some time; where the machine sleeps, its monotonic clock stops, too."""
        self.paused_until_s = self.loop.now_s + for_s
        if sleeps:
            self.slept_s += for_s

    def kill(self) -> None:
        """End at once, in the midst of whatever it does."""
        if not self.alive:
            return
        self.alive = False
        for job in sorted(self.jobs, key=lambda job: job.number):
            job.kill()
        self.jobs.clear()
