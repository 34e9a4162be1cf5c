"""Hears what author code prints, and what it gives to `logging`, for the log of the run that it belongs to.

What is heard goes on to where it would have gone: the log of the process has it too.
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

from t3d_server.models import LogLevel, LogLine
from t3d_server.runs.log import MAX_LINE_LENGTH, log_line

_current: ContextVar[_Ear | None] = ContextVar("t3d_run", default=None)
_all: list[_Ear] = []
"""Those of the runs that go on in this process."""


def install() -> None:
    """Have `captured` hear this process's standard output, standard error and `logging`, from INFO on. Done once.

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
def captured(log: Callable[[LogLine], None]) -> Iterator[None]:
    """Hear what this thread and asyncio tasks of its own print and log: a printed line is INFO, on standard error
    WARNING.

    Other threads have no run of their own: they are heard for the one that goes on, and for none where several do.

    Args:
        log: gets the lines, in any thread; it must not raise.
    """
    ear = _Ear(log)
    _all.append(ear)
    token = _current.set(ear)
    try:
        yield
    finally:
        _current.reset(token)
        _all.remove(ear)
        ear.close()


class _Ear:
    """Hears for one run."""

    def __init__(self, log: Callable[[LogLine], None]) -> None:
        self.log = log
        self.open = True
        self._process = os.getpid()
        # One thread may come twice: the interpreter runs `__del__` of author code anywhere.
        self._lock = threading.RLock()
        self._begun: dict[LogLevel, str] = {}

    def hears(self) -> bool:
        """Whether this is the process of the run, which goes on. A fork has a copy, and nobody to tell."""
        return self.open and self._process == os.getpid()

    def printed(self, text: str, level: LogLevel) -> None:
        """Take text that may begin and end in the midst of a line; of a line that is drawn again, the last state."""
        with self._lock:
            *lines, rest = (self._begun.get(level, "") + text).split("\n")
            self._begun[level] = _shown(rest)[:MAX_LINE_LENGTH] + ("\r" if rest.endswith("\r") else "")
            for line in lines:
                self._tell(line, level)

    def close(self) -> None:
        """Tell the lines that have no end, and hear no more."""
        with self._lock:
            self.open = False
            for level, rest in self._begun.items():
                self._tell(rest, level)

    def _tell(self, line: str, level: LogLevel) -> None:
        if shown := _shown(line).rstrip():
            self.log(log_line(shown, level))


class _Stream:
    """A standard stream that is also heard; in all else it is the stream it was."""

    def __init__(self, stream: TextIO, level: LogLevel) -> None:
        self._stream = stream
        self._level = level

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        if (ear := _listening()) is not None:
            ear.printed(text, self._level)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Records(logging.Handler):
    """Hears records of `logging`, each with the name of its logger."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if (ear := _listening()) is None:
            return
        try:
            ear.log(log_line(self.format(record), _level(record.levelno)))
        except Exception:  # noqa: BLE001  # as every handler: a record that cannot be formatted fails no run
            self.handleError(record)


def _listening() -> _Ear | None:
    ear = _current.get()
    if ear is None:
        every = _all.copy()
        ear = every[0] if len(every) == 1 else None
    return ear if ear is not None and ear.hears() else None


def _shown(line: str) -> str:
    """What a terminal shows of a line that carriage returns have begun anew."""
    return line.rstrip("\r").rpartition("\r")[2]


def _level(number: int) -> LogLevel:
    levels: tuple[LogLevel, ...] = ("ERROR", "WARNING", "INFO")
    return next((level for level in levels if number >= getattr(logging, level)), "DEBUG")
