"""The live state of one run."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from t3d_server.models import LogLevel, LogLine, Manifest, Run, RunFailure, RunStatus, utc_now
from t3d_server.runs.attempts import AttemptKey, latest
from t3d_server.runs.context import storable
from t3d_server.runs.lanes import Lane

LOG_LINES_PER_RUN = 10_000


@dataclass(eq=False)
class Entry:
    """A run that has not ended, or not long ago.

    Attributes:
        run: the run.
        manifest: of its version.
        key: the object of its idempotency key.
        taken_up: it was found in the store, so that there may have been attempts that nobody knows of.
        stop: why it is to stop, once it is.
        spared: its replica is ended because of another run, which is not to count against this one.
        ending: stores its outcome, once there is one.
        saving: held while its record is written.
        save_timer: writes its record later.
        timer: waits for its deadline, and then for the end of its grace period.
        changed: is set at the next change, which has another one after it.
    """

    run: Run
    manifest: Manifest
    key: str = ""
    taken_up: bool = False
    stop: RunFailure | None = None
    spared: bool = False
    ending: asyncio.Task[None] | None = None
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    save_timer: asyncio.TimerHandle | None = None
    timer: asyncio.TimerHandle | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES_PER_RUN))
    _lines_dropped: int = 0

    @property
    def lane(self) -> Lane:
        """Where it waits."""
        return Lane(self.run.algorithm, self.run.version, self.run.resolved_device)

    @property
    def attempt(self) -> AttemptKey | None:
        """The attempt that goes on."""
        return latest(self.run) if self.run.status is RunStatus.RUNNING else None

    def note(self, level: LogLevel, message: str) -> None:
        """Add a line of the server's to its log."""
        self._add_line(LogLine(time=utc_now(), level=level, message=storable(message)))
        self._tell()

    def hear(self, progress: float | None, lines: Iterable[LogLine]) -> None:
        """Take in what its replica tells."""
        news: dict[str, Any] = {} if progress is None else {"progress": progress}
        for line in lines:
            self._add_line(line)
            news["message"] = line.message
        if news:
            self.update(**news)

    def log(self) -> list[LogLine]:
        """The lines that are kept, the latest ones, after one that tells how many are not."""
        if not self._lines_dropped:
            return list(self._lines)
        message = f"{self._lines_dropped} earlier lines are left out: a run keeps {LOG_LINES_PER_RUN}"
        return [LogLine(time=self._lines[0].time, level="WARNING", message=message), *self._lines]

    def lines_after(self, time: datetime | None) -> list[LogLine]:
        """The lines of the log that are later; all of them where `time` is None."""
        if time is None:
            return self.log()
        later = list(itertools.takewhile(lambda line: line.time > time, reversed(self._lines)))
        return later[::-1]

    def clear_log(self) -> None:
        """Forget the log, which is stored."""
        self._lines.clear()

    def update(self, **fields: Any) -> None:
        """Change the run."""
        self.replace(self.run.model_copy(update=fields))

    def replace(self, run: Run) -> None:
        """Change the run, and tell those who wait."""
        self.run = run
        self._tell()

    def cancel_timers(self) -> None:
        """Forget what was to happen later."""
        for handle in (self.timer, self.save_timer):
            if handle is not None:
                handle.cancel()
        self.timer = self.save_timer = None

    def _add_line(self, line: LogLine) -> None:
        self._lines_dropped += len(self._lines) == LOG_LINES_PER_RUN
        if self._lines and line.time <= self._lines[-1].time:
            # No two lines have the same time: who follows the log goes on after the last one that was seen.
            line = line.model_copy(update={"time": self._lines[-1].time + timedelta(microseconds=1)})
        self._lines.append(line)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
