"""The live state of one run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from t3d_server.models import LogLevel, LogLine, Manifest, Run, RunFailure, RunStatus
from t3d_server.runs.attempts import AttemptKey, latest
from t3d_server.runs.lanes import Lane
from t3d_server.runs.log import LogTail, log_line


@dataclass(eq=False)
class Entry:
    """A run that has not ended, or not long ago.

    Attributes:
        run: the run.
        manifest: of its version.
        key: the object of its idempotency key.
        taken_up: it was found in the store, so that there may have been attempts that nobody knows of.
        is_behind: so was its log, whose latest lines only its replica has.
        shortage: what its replicas wait for, as its log tells.
        stop: why it is to stop, once it is.
        ending: stores its outcome, once there is one.
        saving: held while its record is written.
        timers: what is to happen later, by what it is.
        changed: is set at the next change, which has another one after it.
    """

    run: Run
    manifest: Manifest
    key: str = ""
    taken_up: bool = False
    is_behind: bool = False
    shortage: str | None = None
    stop: RunFailure | None = None
    ending: asyncio.Task[None] | None = None
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _log: LogTail = field(default_factory=LogTail)
    _heard: tuple[int, datetime] = (0, datetime.min.replace(tzinfo=UTC))

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
        self.tell(log_line(message, level))

    def tell(self, line: LogLine) -> None:
        """Add a line to its log that is not its replica's."""
        self._log.add(line)
        self._tell()

    def hear(self, progress: float | None, lines: Iterable[LogLine]) -> bool:
        """Take in what its replica tells; it may repeat lines, of which it does not know whether they were heard.

        Returns:
            Whether there were new lines.
        """
        news: dict[str, Any] = {} if progress is None else {"progress": progress}
        for line in lines:
            if (self.run.attempts, line.time) > self._heard:
                self._heard = self.run.attempts, line.time
                self._log.add(line)
                news["message"] = line.message
        if news:
            self.update(**news)
        return "message" in news

    @property
    def has_log(self) -> bool:
        """Whether anything was logged."""
        return bool(self._log)

    def log(self) -> list[LogLine]:
        """Its lines, the latest ones where they are many."""
        return self._log.lines()

    def lines_after(self, time: datetime | None) -> list[LogLine]:
        """The lines of the log that are later; all of them where `time` is None."""
        return self._log.lines() if time is None else self._log.after(time)

    def restore_log(self, lines: Iterable[LogLine]) -> None:
        """Take in the log as it was stored."""
        for line in lines:
            self._log.add(line)
            self._heard = self.run.attempts, line.time

    def clear_log(self) -> None:
        """Forget the log, which is stored."""
        self._log.take()

    def update(self, **fields: Any) -> None:
        """Change the run."""
        self.replace(self.run.model_copy(update=fields))

    def replace(self, run: Run) -> None:
        """Change the run, and tell those who wait."""
        self.run = run
        self._tell()

    def cancel_timers(self) -> None:
        """Forget what was to happen later."""
        while self.timers:
            self.timers.popitem()[1].cancel()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
