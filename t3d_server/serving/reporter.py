"""Carries the news of a run from the author's thread to the coordinator, and the wish to stop back."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Any

import ray

from t3d_server.models import LogLine, utc_now
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.grants import Answer
from t3d_server.runs.log import LogTail

INTERVAL_S = 0.2
SIGN_OF_LIFE_S = 1.0
"""Also without news: a coordinator that was started again learns of the attempt."""
ANSWER_TIMEOUT_S = 2.0
REPEATED = timedelta(seconds=60)
"""How old the lines may be that are sent again: the coordinator stores a log within seconds, if the store is there."""


class Reporter:
    """A run's `Listener`, which batches: at most one call in `INTERVAL_S`, and few without news.

    A call back that comes later than that after the last exchange asks the coordinator there and then, so that a
    cancelled run stops at its next call back however seldom it makes one.

    Args:
        coordinator: handle of the coordinator actor.
        attempt: the attempt at the run.
    """

    def __init__(self, coordinator: Any, attempt: AttemptKey) -> None:
        self._coordinator = coordinator
        self._attempt = attempt
        # One thread may come twice: the interpreter runs `__del__` of author code, which may print, anywhere.
        self._lock = threading.RLock()
        self._progress: float | None = None
        self._log = LogTail()
        self._sent = LogTail()
        self._unanswered: list[LogLine] = []
        self._answer: Any = None
        self._repeats = False
        self._asked = time.monotonic()
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
        if self._go_on and time.monotonic() - self._asked >= INTERVAL_S:
            # The coordinator may be on its way back after a crash: the run goes on meanwhile.
            reference = self._send()
            try:
                self._take(reference, ray.get(reference, timeout=ANSWER_TIMEOUT_S))
            except ray.exceptions.GetTimeoutError:
                pass
            except ray.exceptions.RayError:
                self._take(reference, None)
        return not self._go_on

    async def __aenter__(self) -> Reporter:
        self._pump = asyncio.get_running_loop().create_task(self._send_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pump is not None:
            self._pump.cancel()

    def unsent_lines(self) -> list[LogLine]:
        """Lines of the log that the coordinator may not have got; they go with the outcome."""
        with self._lock:
            return [*self._unanswered, *self._log.take()]

    async def _send_regularly(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self._progress is not None or self._log or time.monotonic() - self._asked >= SIGN_OF_LIFE_S:
                reference = self._send()
                try:
                    self._take(reference, await reference)
                except ray.exceptions.RayError:
                    self._take(reference, None)

    def _send(self) -> Any:
        """Sends what is new; the reference has the answer.

        What is sent before that is answered waits, and gets the same answer: Ray has short calls overtake long ones,
        and lines that are older than those which were heard count as heard.
        """
        with self._lock:
            if self._answer is not None:
                return self._answer
            progress, lines, repeats = self._progress, self._log.take(), self._repeats
            self._progress, self._repeats = None, False
            self._asked = time.monotonic()
            for line in lines:
                self._sent.add(line)
            self._unanswered = lines
            self._answer = self._coordinator.report.remote(self._attempt, progress, lines, repeats=repeats)
            return self._answer

    def _take(self, reference: Any, answer: Answer | None) -> None:
        """Does as it is told, once; None where the coordinator failed, as while its store is away."""
        with self._lock:
            if reference is not self._answer:
                return
            self._answer, self._unanswered = None, []
            self._go_on = self._go_on if answer is None else answer.go_on
            if answer is None or answer.repeat:
                lines = [*self._sent.after(utc_now() - REPEATED), *self._log.take()]
                self._sent, self._log, self._repeats = LogTail(), LogTail(), True
                for line in lines:
                    self._log.add(line)
