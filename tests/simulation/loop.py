"""The event loop of the simulation: virtual time, and handles that belong to processes."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple

from tests.simulation.processes import PROCESS, Died, Process
from tests.simulation.threads import Job, Thread

MAX_TASKS = 4000
"""Tasks that are kept before those that are done are dropped."""


class _Entry(NamedTuple):
    """A handle that is due.

    Attributes:
        when_s: when, in virtual time.
        number: of several at a time, the smallest runs first.
        handle: what to run.
        is_timer: whether it waits for the monotonic clock of its process.
        slept_s: how long that had stood still when this entry was made.
    """

    when_s: float
    number: int
    handle: asyncio.Handle
    is_timer: bool
    slept_s: float


class SimLoop(asyncio.AbstractEventLoop):
    """An event loop whose time is virtual.

    Attributes:
        now_s: the time.
        job: the job whose thread runs now; None where the loop does.
        steps: how many handles have run.
        faults: errors that nobody has caught.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.job: Job | None = None
        self.steps = 0
        self.faults: list[str] = []
        self._heap: list[_Entry] = []
        self._number = 0
        self._jobs = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._idle: list[Thread] = []

    @property
    def process(self) -> Process | None:
        """The process of what runs now, on the loop or in a thread."""
        return PROCESS.get() if self.job is None else self.job.process

    # What asyncio asks of a loop

    def time(self) -> float:
        """The monotonic clock of the process that asks."""
        process = self.process
        return self.now_s - (0.0 if process is None else process.slept_s)

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return True

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        """Start a task, in the present process where the context has none."""
        process = PROCESS.get()
        if context is not None and context.get(PROCESS) is None and process is not None:
            context.run(PROCESS.set, process)
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        if len(self._tasks) > MAX_TASKS:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio; also from threads."""
        if context is None and self.job is not None and self.job.process is not None:
            context = self.job.process.context.copy()
        handle = asyncio.Handle(callback, args, self, context)
        self._push(self.now_s, handle, is_timer=False)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        process = _process_of(handle)
        self._push(max(self.now_s, when + (process.slept_s if process else 0.0)), handle, is_timer=True)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Start a job."""
        future = self.create_future()
        Job(self, PROCESS.get(), executor, lambda: func(*args), future)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep an error that nobody has caught."""
        error = context.get("exception")
        if not isinstance(error, Died):
            self.faults.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    # What the simulation asks of it

    def later(
        self, delay_s: float, callback: Callable[..., Any], *args: Any, process: Process | None = None
    ) -> asyncio.Handle:
        """Call something by the world's clock, in the context of a process, or of none."""
        context = process.context.copy() if process is not None else contextvars.Context()
        handle = asyncio.Handle(callback, args, self, context)
        self._push(self.now_s + delay_s, handle, is_timer=False)
        return handle

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Run what is due until something is so, or up to a time; whether it is so."""
        asyncio._set_running_loop(self)
        try:
            while self._heap and not until():
                entry = heapq.heappop(self._heap)
                if entry.handle._cancelled:  # type: ignore[attr-defined]
                    continue
                if entry.when_s > limit_s:
                    heapq.heappush(self._heap, entry)
                    break
                process = _process_of(entry.handle)
                if process is not None:
                    if not process.alive:
                        continue
                    if (put_off := _put_off(entry, process)) is not None:
                        heapq.heappush(self._heap, put_off)
                        continue
                self.now_s = max(self.now_s, entry.when_s)
                self.steps += 1
                entry.handle._run()
            else:
                return until()
            self.now_s = limit_s
            return until()
        finally:
            asyncio._set_running_loop(None)

    def next_job_number(self) -> int:
        """Numbers of jobs, in the order in which they were made."""
        self._jobs += 1
        return self._jobs

    def take_thread(self) -> Thread:
        """A thread that has nothing to do."""
        return self._idle.pop() if self._idle else Thread()

    def return_thread(self, thread: Thread) -> None:
        """A thread has nothing to do any more."""
        self._idle.append(thread)

    def end(self) -> None:
        """End the threads that have nothing to do, and forget all else."""
        for thread in self._idle:
            thread.stop()
        self._idle.clear()
        self._heap.clear()
        self._tasks.clear()

    def _push(self, when_s: float, handle: asyncio.Handle, *, is_timer: bool) -> None:
        self._number += 1
        process = _process_of(handle)
        slept_s = process.slept_s if process is not None else 0.0
        heapq.heappush(self._heap, _Entry(when_s, self._number, handle, is_timer, slept_s))


def _process_of(handle: asyncio.Handle) -> Process | None:
    context: contextvars.Context = handle._context  # type: ignore[attr-defined]
    return context.get(PROCESS)


def _put_off(entry: _Entry, process: Process) -> _Entry | None:
    """The entry at a later time, where its process sleeps, or has slept."""
    if entry.is_timer and process.slept_s > entry.slept_s:
        more_s = process.slept_s - entry.slept_s
        return entry._replace(when_s=entry.when_s + more_s, slept_s=process.slept_s)
    if process.paused_until_s > entry.when_s:
        return entry._replace(when_s=process.paused_until_s)
    return None
