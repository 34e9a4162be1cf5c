"""Lines of logs, and the log of a run while it grows: its end is kept, and a line says how much was cut."""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, cast, get_args

from t3d_server.models import LogLevel, LogLine, Run, RunFailure

MAX_LINES = 10_000
MAX_BYTES = 4 * 1024**2
MAX_LINE_LENGTH = 20_000


_TERMINAL_CODE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def storable(text: str) -> str:
    """Text without colours and other codes for terminals, that can be written as UTF-8.

    What cannot be written (lone surrogates, as from odd file names) is escaped.
    """
    return _TERMINAL_CODE.sub("", text).encode("utf-8", "backslashreplace").decode()


def shortened(text: str) -> str:
    """Text of `MAX_LINE_LENGTH` characters at most, and a note: what is left out is in its middle."""
    more = len(text) - MAX_LINE_LENGTH
    half = MAX_LINE_LENGTH // 2
    return text if more <= 0 else f"{text[:half]}… ({more} characters are left out) …{text[-half:]}"


def log_line(message: str, level: str, time: datetime) -> LogLine:
    """A line of this time, `shortened`.

    Raises:
        ValueError: the level is unknown.
    """
    if level not in get_args(LogLevel):
        raise ValueError(f"logging_level {level!r} is unknown; allowed are {', '.join(get_args(LogLevel))}")
    return LogLine.model_construct(time=time, level=cast(LogLevel, level), message=storable(shortened(message)))


def end_line(failure: RunFailure, time: datetime) -> LogLine:
    """The last line of the log of a run without a result: why it has none, with the author's traceback."""
    if failure.code == "cancelled":
        return log_line(failure.message, "WARNING", time)
    cause = ": ".join(filter(None, [failure.type, failure.message.rstrip()]))
    traceback = failure.traceback.rstrip()  # of an error in the author's code it ends with that
    message = traceback if traceback.endswith(cause) else f"{traceback}\n{cause}".lstrip()
    return log_line(message, "ERROR", time)


def run_fields(run: Run) -> dict[str, Any]:
    """What a line of the server's own log carries that is about a run: `logger.info(..., extra=run_fields(run))`."""
    return {"run_id": run.id, "algorithm": run.algorithm, "version": run.version, "attempt": run.attempts}


class LogTail:
    """The latest lines of a log: at most `MAX_LINES`, and `MAX_BYTES` of text."""

    def __init__(self) -> None:
        self._lines: deque[tuple[LogLine, int]] = deque()
        self._size_bytes = 0
        self._dropped = 0
        self._latest = datetime.min.replace(tzinfo=UTC)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, line: LogLine) -> None:
        """Add a line; the earliest ones make room for it."""
        line = self._later(line)
        self._latest = line.time
        size_bytes = len(line.message.encode())
        self._lines.append((line, size_bytes))
        self._size_bytes += size_bytes
        while len(self._lines) > MAX_LINES or self._size_bytes > MAX_BYTES:
            self._size_bytes -= self._lines.popleft()[1]
            self._dropped += 1

    def with_last(self, line: LogLine) -> list[LogLine]:
        """The lines as they would be with one more, which is not added."""
        return [*self.lines(), self._later(line)]

    def lines(self) -> list[LogLine]:
        """The lines that are kept, after one that tells how many are not."""
        lines = [line for line, _ in self._lines]
        if not self._dropped:
            return lines
        message = f"{self._dropped} earlier lines are left out: {MAX_LINES} lines and {MAX_BYTES} bytes are kept"
        return [LogLine(time=lines[0].time - timedelta(microseconds=1), level="WARNING", message=message), *lines]

    def after(self, time: datetime) -> list[LogLine]:
        """The lines that are later."""
        later = [line for line, _ in takewhile(lambda item: item[0].time > time, reversed(self._lines))]
        return later[::-1]

    def since(self, number: int) -> tuple[int, list[LogLine]]:
        """The lines from a number on that are kept, and the number of the first of them; the first line has 0."""
        first = max(number, self._dropped)
        return first, [line for line, _ in islice(self._lines, first - self._dropped, None)]

    def _later(self, line: LogLine) -> LogLine:
        """The line with a later time than all before it.

        No two lines have the same time, whatever the clock does: who follows the log goes on after the last one that
        was seen, be it still there or taken.
        """
        if line.time > self._latest:
            return line
        return line.model_copy(update={"time": self._latest + timedelta(microseconds=1)})
