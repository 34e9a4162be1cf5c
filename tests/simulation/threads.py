"""Threads of simulated processes: real ones, of which one runs at a time, until it blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from tests.simulation.processes import Died, Pool, Process

if TYPE_CHECKING:
    from tests.simulation.loop import SimLoop

DEFAULT_THREADS = 6
"""Threads of a process's default executor: min(32, cores + 4) on two cores."""


class ThreadCount(Executor):
    """Stands for an executor with so many threads, which the event loop simulates."""

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers


class Thread:
    """A real thread, used for one job after the other."""

    def __init__(self) -> None:
        self.go, self.back = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.back.acquire()
        self.job: Job | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self.go.acquire()
            if self.job is None:
                return
            self.job.execute()
            self.back.release()

    def stop(self) -> None:
        """End the thread, which has no job."""
        self.job = None
        self.go.release()


class Job:
    """A blocking function in a thread of a process; it runs alone, and yields where it blocks.

    Args:
        loop: the event loop.
        process: whose thread it is; None for none that can be killed.
        executor: with what threads.
        function: the function.
        future: gets its result.
    """

    def __init__(
        self,
        loop: SimLoop,
        process: Process | None,
        executor: Executor | None,
        function: Callable[[], Any],
        future: asyncio.Future[Any],
    ) -> None:
        self.loop = loop
        self.process = process
        self.number = loop.next_job_number()
        self.done = False
        self._function = function
        self._future = future
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread: Thread | None = None
        self._given: tuple[Any, BaseException | None] = (None, None)
        self._request: Callable[[Job], None] | None = None
        self._pool: Pool | None = None
        if process is not None:
            count = getattr(executor, "_max_workers", DEFAULT_THREADS)
            self._pool = process.pools.setdefault(0 if executor is None else id(executor), Pool(count))
            process.jobs.add(self)
            if self._pool.free == 0:
                self._pool.waiting.append(self)
                return
            self._pool.free -= 1
        loop.later(0.0, self._start, process=process)

    def execute(self) -> None:
        """Call the function; in its thread."""
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        self.done = True

    def block(self, request: Callable[[Job], None]) -> Any:
        """Yield until `step` is called, which `request` is to have done; in its thread."""
        if self.process is not None and not self.process.alive:
            raise Died
        assert self._thread is not None
        self._request = request
        self._thread.back.release()
        self._thread.go.acquire()
        value, error = self._given
        if error is not None:
            raise error
        return value

    def step(self, value: Any, error: BaseException | None) -> None:
        """Go on with what it waited for; on the event loop."""
        if self.done or self._thread is None:
            return
        self._given = value, error
        self.loop.job = self
        asyncio._set_running_loop(None)
        self._thread.go.release()
        self._thread.back.acquire()
        asyncio._set_running_loop(self.loop)
        self.loop.job = None
        if self.done:
            self._finish(self._thread)
        else:
            request, self._request = self._request, None
            assert request is not None
            request(self)

    def kill(self) -> None:
        """Its process has died."""
        if self._thread is None:
            self.done = True
        while not self.done:
            self.step(None, Died())

    def _start(self) -> None:
        self._thread = self.loop.take_thread()
        self._thread.job = self
        self.step(None, None)

    def _finish(self, thread: Thread) -> None:
        self.loop.return_thread(thread)
        if self.process is not None and self._pool is not None:
            self.process.jobs.discard(self)
            if not self.process.alive:
                return
            if self._pool.waiting:
                self.loop.later(0.0, self._pool.waiting.popleft()._start, process=self.process)
            else:
                self._pool.free += 1
        if not self._future.done():
            if self._error is not None:
                self._future.set_exception(self._error)
            else:
                self._future.set_result(self._result)
