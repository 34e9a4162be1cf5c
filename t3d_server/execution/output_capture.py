"""Captures what author code prints, and what it gives to `logging`, for the log of the run that it belongs to.

What is captured goes on to where it would have gone: the log of the process has it too.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, cast

from t3d_server.clock import SYSTEM_CLOCK, Clock
from t3d_server.models import LogLevel, LogLine
from t3d_server.run_log import MAX_LINE_LENGTH, log_line

_current: ContextVar[_Capture | None] = ContextVar("t3d_run", default=None)
_all: list[_Capture] = []
"""Those of the runs that go on in this process."""


def install() -> None:
    """Let `captured` see this process's standard output, standard error and `logging`, from INFO on. Done once.

    To be called before author code is imported, which may keep `sys.stderr`.
    """
    if isinstance(sys.stdout, _Stream):
        return
    root = logging.getLogger()
    if not root.handlers:  # else the one below would keep warnings from standard error
        plain = logging.StreamHandler(sys.stderr)
        plain.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(plain)
    root.addHandler(_Records())
    root.setLevel(min(root.level, logging.INFO))
    sys.stdout = cast(TextIO, _Stream(sys.stdout, "INFO"))
    sys.stderr = cast(TextIO, _Stream(sys.stderr, "WARNING"))


@contextmanager
def captured(log: Callable[[LogLine], None], clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
    """Capture what this thread and asyncio tasks of its own print and log: a printed line is INFO, on standard error
    WARNING.

    Other threads have no run of their own: they count for the one that goes on, and for none where several do.

    Args:
        log: gets the lines, in any thread; it must not raise.
        clock: the clock.
    """
    capture = _Capture(log, clock)
    _all.append(capture)
    token = _current.set(capture)
    try:
        yield
    finally:
        _current.reset(token)
        _all.remove(capture)
        capture.close()


class _Capture:
    """Captures for one run."""

    def __init__(self, log: Callable[[LogLine], None], clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self.open = True
        self._process = os.getpid()
        # One thread may come twice: the interpreter runs `__del__` of author code anywhere.
        self._lock = threading.RLock()
        self._begun: dict[LogLevel, str] = {}

    def log(self, message: str, level: LogLevel) -> None:
        """Take a line."""
        self._log(log_line(message, level, self._clock.now()))

    def is_open(self) -> bool:
        """Whether this is the process of the run, which goes on. A fork has a copy, which nobody reads."""
        return self.open and self._process == os.getpid()

    def printed(self, text: str, level: LogLevel) -> None:
        """Take text that may begin and end in the midst of a line; of a line that is drawn again, the last state."""
        with self._lock:
            *lines, rest = (self._begun.get(level, "") + text).split("\n")
            self._begun[level] = _shown(rest)[:MAX_LINE_LENGTH] + ("\r" if rest.endswith("\r") else "")
            for line in lines:
                self._emit(line, level)

    def close(self) -> None:
        """Emit the lines that have no end, and take no more."""
        with self._lock:
            self.open = False
            for level, rest in self._begun.items():
                self._emit(rest, level)

    def _emit(self, line: str, level: LogLevel) -> None:
        if shown := _shown(line).rstrip():
            self.log(shown, level)


class _Stream:
    """A standard stream that is also captured; in all else it is the stream it was."""

    def __init__(self, stream: TextIO, level: LogLevel) -> None:
        self._stream = stream
        self._level = level

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        if (capture := _listening()) is not None:
            capture.printed(text, self._level)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Records(logging.Handler):
    """Captures records of `logging`, each with the name of its logger."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if (capture := _listening()) is None:
            return
        try:
            capture.log(self.format(record), _level(record.levelno))
        except Exception:  # noqa: BLE001  # as every handler: a record that cannot be formatted fails no run
            self.handleError(record)


def _listening() -> _Capture | None:
    capture = _current.get()
    if capture is None:
        every = _all.copy()
        capture = every[0] if len(every) == 1 else None
    return capture if capture is not None and capture.is_open() else None


def _shown(line: str) -> str:
    """What a terminal shows of a line that carriage returns have begun anew."""
    return line.rstrip("\r").rpartition("\r")[2]


def _level(number: int) -> LogLevel:
    levels: tuple[LogLevel, ...] = ("ERROR", "WARNING", "INFO")
    return next((level for level in levels if number >= getattr(logging, level)), "DEBUG")
