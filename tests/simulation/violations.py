"""What was found to be wrong in one simulation, and its trace."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.loop import SimLoop


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold.

    Attributes:
        kind: which one.
        text: how, with the virtual time.
    """

    kind: str
    text: str


class Findings:
    """Collects violations, counts of what is worth knowing, and the trace.

    Args:
        loop: tells the time.
        traced: whether a trace is kept.
    """

    def __init__(self, loop: SimLoop, *, traced: bool) -> None:
        self._loop = loop
        self._traced = traced
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []

    def violation(self, kind: str, text: str) -> None:
        """An invariant does not hold."""
        self.trace("CHECK", f"{kind}: {text}")
        self.violations.append(Violation(kind, f"t={self._loop.now_s:.3f} {text}"))

    def count(self, what: str) -> None:
        """Something that may be, and is worth a count."""
        self.counts[what] += 1

    def trace(self, what: str, text: str) -> None:
        """Add a line to the trace."""
        if self._traced:
            self.lines.append(f"{self._loop.now_s:9.3f} {what:6} {text}")

    @contextmanager
    def of_logs(self) -> Iterator[None]:
        """Take errors with a traceback in the server's own log for violations."""
        handler = _Handler(self)
        loggers = [logging.getLogger(name) for name in ("t3d_server", "ray.serve")]
        before = [(logger.level, logger.propagate) for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO if self._traced else logging.ERROR)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, (level, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate


class _Handler(logging.Handler):
    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            where = place_of(error)
            self._findings.violation(
                "logged-error", f"{record.getMessage()}: {type(error).__name__}: {error} ({where})"
            )
        else:
            process = self._findings._loop.process
            name = "" if process is None else process.name
            self._findings.trace("log", f"{name}: {record.getMessage()}")


def place_of(error: BaseException, part: str = "t3d_server/") -> str:
    """Where an error was raised, the last place in a part of the code."""
    place, trace = "", error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if part in path:
            place = f"{path.rpartition(part)[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
