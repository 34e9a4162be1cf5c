"""Carries progress and log of an attempt to the coordinator, and whether it is to stop back to the author's thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from t3d_server.clock import Clock
from t3d_server.errors import T3dError
from t3d_server.models import LogLine
from t3d_server.run_log import LogTail
from t3d_server.runs.interface import AttemptKey, Lines, Runs

logger = logging.getLogger("ray.serve")

INTERVAL_S = 0.2
HEARTBEAT_S = 1.0
"""Also without news: a coordinator that was started again learns of the attempt."""
ANSWER_TIMEOUT_S = 2.0

Wait = Callable[[Coroutine[Any, Any, None], float], None]
"""Has something done on the event loop and waits for it, at most so many seconds; called in other threads."""


class Reporter:
    """A run's `Listener`, which batches: at most one call in `INTERVAL_S`, and few without news.

    A call back that comes later than that after the last exchange asks the coordinator there and then, so that a
    cancelled run stops at its next call back however seldom it makes one.

    Args:
        runs: the coordinator.
        attempt: the attempt at the run.
        clock: the clock.
        wait: see `Wait`.
    """

    def __init__(self, runs: Runs, attempt: AttemptKey, clock: Clock, wait: Wait) -> None:
        self._runs = runs
        self._attempt = attempt
        self._clock = clock
        self._wait = wait
        # One thread may come twice: the interpreter runs `__del__` of author code, which may print, anywhere.
        self._lock = threading.RLock()
        self._progress: float | None = None
        self._log = LogTail()
        self._sent = 0
        self._exchanging: asyncio.Task[None] | None = None
        self._asked_s = clock.seconds()
        self._go_on = True
        self._pump: asyncio.Task[None] | None = None

    def log(self, line: LogLine) -> None:
        """A new line of the log."""
        with self._lock:
            self._log.add(line)

    def progress(self, fraction: float) -> None:
        """How far the run is."""
        with self._lock:
            self._progress = fraction

    def cancelled(self) -> bool:
        """Whether the run is to stop; called in the author's thread."""
        if self._go_on and self._clock.seconds() - self._asked_s >= INTERVAL_S:
            # The coordinator may be on its way back after a crash: the run goes on meanwhile.
            self._wait(self._exchange(), ANSWER_TIMEOUT_S)
        return not self._go_on

    async def __aenter__(self) -> Reporter:
        self._pump = asyncio.get_running_loop().create_task(self._report_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pump is not None:
            self._pump.cancel()

    def unsent(self) -> Lines:
        """Lines of the log that the coordinator may not have got; they go with the outcome."""
        with self._lock:
            first, lines = self._log.since(self._sent)
            return Lines(first, lines, complete=first > self._sent)

    def resend_from(self, number: int) -> None:
        """The coordinator has only the lines before this one."""
        self._sent = number

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            silent_s = self._clock.seconds() - self._asked_s
            if self._progress is not None or self.unsent().lines or silent_s >= HEARTBEAT_S:
                await self._exchange()

    async def _exchange(self) -> None:
        """Send what is new, one call at a time: Ray has short calls overtake long ones."""
        if self._exchanging is None or self._exchanging.done():
            self._exchanging = asyncio.get_running_loop().create_task(self._send())
        await asyncio.shield(self._exchanging)

    async def _send(self) -> None:
        with self._lock:
            progress, self._progress = self._progress, None
        self._asked_s = self._clock.seconds()
        while True:
            lines = self.unsent()
            try:
                answer = await self._runs.report(attempt=self._attempt, progress=progress, lines=lines)
            except Exception as error:  # the coordinator or its store is away: the same lines go again
                if not isinstance(error, T3dError):
                    logger.exception(
                        "attempt %d at run %s cannot be reported", self._attempt.number, self._attempt.run_id
                    )
                with self._lock:
                    self._progress = progress if self._progress is None else self._progress
                return
            self._go_on &= answer.go_on
            if answer.resend_from is None or not answer.go_on:
                self._sent = lines.first + len(lines.lines)
                return
            self.resend_from(answer.resend_from)
