"""One run that has not ended: its state, and every change that it can go through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from t3d_server.clock import Clock
from t3d_server.models import Attempt, LogLevel, LogLine, Manifest, Run, RunFailure, RunStatus
from t3d_server.run_log import LogTail, end_line, log_line, storable
from t3d_server.runs.interface import AttemptKey, Lines, QueueName


class RunState(StrEnum):
    """Where a run is, more exactly than its `status` says."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    REQUEUED = "REQUEUED"
    ENDING = "ENDING"
    ENDED = "ENDED"
    DISOWNED = "DISOWNED"


class RunEvent(StrEnum):
    """What can happen to a run."""

    BEGIN = "a replica begins an attempt"
    STOP = "it is cancelled, or past its deadline"
    LOSE = "its replica has ended"
    POSTPONE = "the attempt failed because the store was away"
    REQUEUE = "the store is back"
    END = "it has an outcome"
    RECORD = "the outcome is on record"
    DISOWN = "another cluster has taken over"


@dataclass(frozen=True)
class Transition:
    """What an event does to a run.

    Attributes:
        to: the state after it.
        writes: the event of the log that it writes; "" for none.
        informs: who learns of it, in order.
    """

    to: RunState
    writes: str = ""
    informs: str = ""


_S, _E = RunState, RunEvent
_GONE = Transition(_S.DISOWNED, informs="clients: 503, then the record; the replica: stop")
TRANSITIONS: Mapping[tuple[RunState, RunEvent], Transition] = {
    (_S.QUEUED, _E.BEGIN): Transition(_S.RUNNING, "updated (started), after 0.2 s", "the replica, followers"),
    (_S.QUEUED, _E.END): Transition(_S.ENDING, "ended"),
    (_S.QUEUED, _E.DISOWN): _GONE,
    (_S.RUNNING, _E.STOP): Transition(
        _S.STOPPING, "updated (cancel requested), for a cancellation", "the replica with its next report"
    ),
    (_S.RUNNING, _E.LOSE): Transition(_S.QUEUED, "updated (requeued)", "followers"),
    (_S.RUNNING, _E.POSTPONE): Transition(_S.REQUEUED, "updated (requeued)", "followers"),
    (_S.RUNNING, _E.END): Transition(_S.ENDING, "ended"),
    (_S.RUNNING, _E.DISOWN): _GONE,
    (_S.STOPPING, _E.STOP): Transition(
        _S.STOPPING, "updated (cancel requested), for a cancellation", "nobody: the first reason counts"
    ),
    (_S.STOPPING, _E.END): Transition(_S.ENDING, "ended"),
    (_S.STOPPING, _E.DISOWN): _GONE,
    (_S.REQUEUED, _E.REQUEUE): Transition(_S.QUEUED),
    (_S.REQUEUED, _E.END): Transition(_S.ENDING, "ended"),
    (_S.REQUEUED, _E.DISOWN): _GONE,
    (_S.ENDING, _E.RECORD): Transition(_S.ENDED, informs="clients, followers, the replica"),
    (_S.ENDING, _E.DISOWN): _GONE,
}
"""Every change of state that there is. What is not here is an `InvalidTransitionError`.

A STOPPING run whose replica ends has an outcome by that: CANCELLED, or FAILED with `timeout`.
"""

WORKED_ON = (RunState.RUNNING, RunState.STOPPING)


class InvalidTransitionError(Exception):
    """An event that cannot happen to a run in its state: a fault of the coordinator."""


class LiveRun:
    """A run of this cluster that has not ended. Every change is a method.

    Args:
        run: the run.
        manifest: of its version.
        clock: the clock.
        recovered: it was found in the log, so that there may be attempts, and lines of its log, that are on no record.

    Attributes:
        run: the run as clients see it, but for its place in the queue.
        state: where it is.
        manifest: of its version.
        recovered: see above.
        stop_reason: why it is to stop, once it is.
        shortage: what its replicas wait for, as its log says.
        leftovers: whether attempts may have left datasets that are none of its outputs.
        stored_logs: the objects that have its log so far; the last one is the newest.
        changed: is set at the next change, which has another one after it.
    """

    def __init__(self, run: Run, manifest: Manifest, clock: Clock, *, recovered: bool = False) -> None:
        self.run = run
        self.manifest = manifest
        self.recovered = recovered
        self.state = RunState.QUEUED if run.status is RunStatus.PENDING else RunState.RUNNING
        self.stop_reason: RunFailure | None = None
        self.shortage: str | None = None
        self.leftovers = recovered
        self.stored_logs: list[str] = []
        self.changed = asyncio.Event()
        self._clock = clock
        self._log = LogTail()
        self._heard = 0
        self._notes: list[LogLine] = []
        self._end_line: LogLine | None = None
        self._announces_restart = recovered

    @property
    def queue(self) -> QueueName:
        """Where it waits."""
        return QueueName(self.run.algorithm, self.run.version, self.run.resolved_device)

    @property
    def attempt(self) -> AttemptKey | None:
        """The attempt that goes on."""
        return latest_attempt(self.run) if self.state in WORKED_ON else None

    @property
    def goes_on(self) -> bool:
        """Whether it has no outcome yet, and is this cluster's."""
        return self.state not in (RunState.ENDING, RunState.ENDED, RunState.DISOWNED)

    def begin(self, number: int, replica: str, *, hidden: bool = False) -> None:
        """A replica begins an attempt, or has begun one that a crash has hidden.

        The log of such a one comes again, from its beginning: no line of the server's comes before, so that lines have
        the times by which followers know them.
        """
        self._enter(RunEvent.BEGIN)
        self.shortage = None
        self._heard = 0
        if self._announces_restart and not hidden:
            self._announces_restart = False
            self.note("WARNING", STARTED_AGAIN)
        now = self._clock.now()
        attempt = Attempt(number=number, replica=replica, started_at=now)
        history = [*self.run.attempt_history, attempt]
        self.update(status=RunStatus.RUNNING, started_at=now, attempts=number, attempt_history=history)
        if number > 1 and not hidden:
            self.note("INFO", f"the run is retried as attempt {number}")

    def stop(self, reason: RunFailure) -> None:
        """It is to stop at its next call back; the first reason counts."""
        self._enter(RunEvent.STOP)
        self.stop_reason = self.stop_reason or reason

    def lose(self, reason: str, *, charged: bool) -> None:
        """Its replica has ended: it waits again."""
        self._enter(RunEvent.LOSE)
        self._add_notes()
        self.leftovers = True
        self._wait_again(reason, charged)

    def postpone(self, reason: str) -> None:
        """The store was away: it waits again as soon as that is back."""
        self._enter(RunEvent.POSTPONE)
        self._wait_again(reason, charged=True)

    def requeue(self) -> None:
        """The store is back."""
        self._enter(RunEvent.REQUEUE)

    def end(
        self,
        status: RunStatus,
        *,
        attempt: Literal["completed", "failed", "cancelled", "lost", "killed"] = "lost",
        error: RunFailure | None = None,
        **fields: Any,
    ) -> Run:
        """It has an outcome, which counts once it is on record; the first one does.

        Args:
            status: how it ends.
            attempt: how its attempt ended, if one goes on.
            error: why it has no result.
            fields: more of the run.

        Returns:
            The ended run.
        """
        self._enter(RunEvent.END)
        self._add_notes()
        if error is not None:
            self._end_line = end_line(error, self._clock.now())
        now = self._clock.now()
        fields |= {"status": status, "error": error, "progress": 1.0, "ended_at": now}
        return self._closed(attempt, {}).model_copy(update=fields)

    def record(self, run: Run) -> None:
        """Its outcome is on record."""
        self._enter(RunEvent.RECORD)
        if self._end_line is not None:
            self._log.add(self._end_line)
        self._replace(run)

    def disown(self) -> None:
        """Another cluster has taken over."""
        self._enter(RunEvent.DISOWN)
        self._announce()

    def update(self, **fields: Any) -> None:
        """Change what clients see of it."""
        self._replace(self.run.model_copy(update=fields))

    def note(self, level: LogLevel, message: str) -> None:
        """Add a line of the server's to its log.

        After a restart it comes after those that the replica sends again, which have the times by which followers know
        them.
        """
        self._notes.append(log_line(message, level, self._clock.now()))
        if not (self._announces_restart and self.state in WORKED_ON):
            self._add_notes()

    def hear(self, progress: float | None, lines: Lines) -> int | None:
        """Take in what its replica reports; lines that have come before are left out.

        Returns:
            The number of the line from which on the replica is to send its log again; None where all has come.
        """
        fields: dict[str, Any] = {} if progress is None else {"progress": progress}
        missing = lines.first > self._heard and not lines.complete
        if not missing:
            for line in lines.lines[max(0, self._heard - lines.first) :]:
                self._log.add(line)
                fields["message"] = line.message
            self._heard = max(self._heard, lines.first + len(lines.lines))
        if fields:
            self.update(**fields)
        if not missing and self._announces_restart:
            self._announces_restart = False
            self.note("WARNING", STARTED_AGAIN)
        return self._heard if missing else None

    @property
    def log(self) -> list[LogLine]:
        """Its log, the latest lines where they are many."""
        return self._log.lines()

    @property
    def ended_log(self) -> list[LogLine]:
        """Its log to the end; nobody sees the line that tells why it has no result before that is on record."""
        return self.log if self._end_line is None else self._log.with_last(self._end_line)

    @property
    def heard(self) -> int:
        """How many lines of its attempt are in the log."""
        return self._heard

    def lines_after(self, time: Any) -> list[LogLine]:
        """The lines of the log that are later; all of them where `time` is None."""
        return self._log.lines() if time is None else self._log.after(time)

    def restore_log(self, lines: Iterable[LogLine], heard: int) -> None:
        """Take in the log as it was stored, with so many lines of the attempt."""
        for line in lines:
            self._log.add(line)
        self._heard = heard

    def _add_notes(self) -> None:
        for line in self._notes:
            self._log.add(line)
        self._notes.clear()
        self._announce()

    def _wait_again(self, reason: str, charged: bool) -> None:
        run = self._closed("lost", {"reason": storable(reason), "charged": charged})
        self._replace(run.model_copy(update={"status": RunStatus.PENDING, "progress": 0.0, "started_at": None}))

    def _closed(self, outcome: str, details: dict[str, Any]) -> Run:
        """The run with its latest attempt ended, if one goes on."""
        if not self.run.attempt_history or self.run.attempt_history[-1].outcome is not None:
            return self.run
        *earlier, attempt = self.run.attempt_history
        attempt = attempt.model_copy(update={"outcome": outcome, "ended_at": self._clock.now(), **details})
        return self.run.model_copy(update={"attempt_history": [*earlier, attempt]})

    def _enter(self, event: RunEvent) -> None:
        transition = TRANSITIONS.get((self.state, event))
        if transition is None:
            raise InvalidTransitionError(f"run {self.run.id} is {self.state}: it cannot be that {event}")
        self.state = transition.to

    def _replace(self, run: Run) -> None:
        self.run = run
        self._announce()

    def _announce(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


STARTED_AGAIN = "the server was started again"


def latest_attempt(run: Run) -> AttemptKey | None:
    """The latest attempt at a run that is known."""
    if not run.attempt_history:
        return None
    attempt = run.attempt_history[-1]
    return AttemptKey(run.id, attempt.number, attempt.replica)


def charged_attempts(run: Run) -> int:
    """How many lost attempts count towards the bound."""
    return sum(attempt.outcome == "lost" and attempt.charged for attempt in run.attempt_history)
