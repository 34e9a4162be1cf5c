"""Grants attempts to replicas, hears of them, and queues again what was lost; the replicas' side of the coordinator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from t3d_server.errors import NotFoundError, StoreUnavailableError
from t3d_server.models import Device, LogLine, Manifest, Run, RunFailure, RunStatus, utc_now
from t3d_server.runs.attempts import AttemptKey, begun, charged, closed
from t3d_server.runs.endings import Endings
from t3d_server.runs.entry import Entry
from t3d_server.runs.executor import Outcome
from t3d_server.runs.journal import Journal
from t3d_server.runs.lanes import Dispatcher, Lane, Lanes, ReplicaGoneError
from t3d_server.runs.ledger import Ledger
from t3d_server.runs.log import run_fields, storable
from t3d_server.runs.records import RunRecords
from t3d_server.runs.supervision import Supervisor, status_after

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
STARTED_AGAIN = "the server was started again"


@dataclass(frozen=True)
class Answer:
    """What a replica is told when it has reported.

    Attributes:
        go_on: whether it is to go on with the run.
        repeat: the lines were not taken: it is to send them again, with the latest ones that it has sent before.
    """

    go_on: bool
    repeat: bool = False


@dataclass(frozen=True)
class Receipt:
    """What a replica is told when it has delivered an outcome.

    Attributes:
        counts: whether its outputs are those of the run; else it is to remove them.
        following: the run to work on next, if there is one.
    """

    counts: bool
    following: Run | None


class Grants:
    """The attempts at the live runs.

    Args:
        dispatcher: calls replicas.
        slots: how many calls of a manifest's replicas may be open at a time, on a device.
        grace_s: see `Supervisor`.
        ledger: the live runs.
        records: the durable records.
        journal: writes them.
        endings: ends runs.

    Attributes:
        lanes: what waits.
        supervisor: watches what is worked on.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        slots: Callable[[Manifest, Device], int],
        grace_s: float,
        ledger: Ledger,
        records: RunRecords,
        journal: Journal,
        endings: Endings,
    ) -> None:
        self.lanes = Lanes[Entry](dispatcher, self)
        self.supervisor = Supervisor(dispatcher, ledger.live, self._has_gone, grace_s)
        self._slots = slots
        self._ledger = ledger
        self._records = records
        self._journal = journal
        self._endings = endings

    def enqueue(self, entry: Entry, *, first: bool = False) -> None:
        """Have a run wait for a replica."""
        self.lanes.add(entry.lane, entry, slots=self._slots(entry.manifest, entry.run.resolved_device), first=first)

    def begin(self, call_id: str, replica: str) -> Run | None:
        """See `Coordinator.begin`."""
        return _run_of(self.lanes.begin(call_id, replica))

    def report(self, attempt: AttemptKey, progress: float | None, lines: Iterable[LogLine], *, repeats: bool) -> Answer:
        """See `Coordinator.report`."""
        entry = self._current(attempt)
        if entry is None or entry.ending is not None:
            return Answer(go_on=False)
        if entry.is_behind and not repeats:
            entry.hear(progress, [])
            return Answer(go_on=entry.stop is None, repeat=True)
        if entry.hear(progress, lines):
            self._journal.save_log_soon(entry)
        if entry.is_behind:
            entry.is_behind = False
            entry.note("WARNING", STARTED_AGAIN)
        return Answer(go_on=entry.stop is None)

    async def finish(self, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: Iterable[LogLine]) -> Receipt:
        """See `Coordinator.finish`."""
        entry = self._current(attempt)
        if entry is not None:
            if entry.ending is None:
                entry.hear(None, lines)
            if entry.ending is None and entry.stop is None and _is_to_be_repeated(entry, outcome.error):
                self.lanes.let_go(call_id, entry)
                await self._repeat(entry, outcome.error)
            else:
                await self._endings.deliver(entry, outcome)
        return Receipt(
            counts=await self._counts(attempt.run_id, outcome),
            following=_run_of(self.lanes.next(call_id, lambda item: _is_over(attempt, item))),
        )

    def resume(self, entry: Entry) -> None:
        """Go on with a run that another coordinator has left, in the queue or with its attempt."""
        if entry.attempt is None:
            self.enqueue(entry)
        else:
            self._follow(entry)

    def begun(self, item: Entry, replica: str) -> None:
        """A replica has taken a run; see `Owner`."""
        self._begin(item, item.run.attempts + 1, replica)
        self.supervisor.started(item)

    async def lost(self, item: Entry, replica: str, end: ReplicaGoneError) -> None:
        """Queue a run whose attempt was lost, or end it if that was the last one; see `Owner`.

        One whose replica is only out of reach goes on, and is lost when that has ended.
        """
        attempt = item.attempt
        if attempt is None or attempt.replica != replica or item.ending is not None or not self._ledger.has(item):
            return  # something else has become of it
        if not end.certain:
            logger.warning("run %s: %s; it goes on all the same", item.run.id, end, extra=run_fields(item.run))
            self.supervisor.follow(item)
            return
        reason, killed = str(end), self.supervisor.has_killed(replica)
        if killed and item.stop is not None:
            await self._endings.end(item, status_after(item.stop), attempt="killed", error=item.stop)
            return
        if killed:
            reason = "its replica was stopped because of another run, which did not stop by itself"
        item.note("WARNING", f"attempt {attempt.number} was lost: {reason}")
        logger.warning(
            "run %s: attempt %d was lost: %s", item.run.id, attempt.number, reason, extra=run_fields(item.run)
        )
        if item.stop is not None:
            await self._endings.end(item, status_after(item.stop), error=item.stop)
            return
        self.put_back(item, reason, charged=end.charged and not killed)
        if charged(item.run) >= MAX_ATTEMPTS:
            message = storable(f"all {MAX_ATTEMPTS} attempts were lost, the last one so: {reason}")
            await self._endings.fail(
                item, RunFailure(code="attempts_exhausted", type="AttemptsExhausted", message=message)
            )
        else:
            self._journal.save_soon(item)
            self.enqueue(item, first=True)

    def put_back(self, entry: Entry, reason: str, *, charged: bool = True) -> None:
        """A run whose attempt was lost waits again, in no queue yet."""
        self.supervisor.ended(entry)
        self._journal.save_log_soon(entry)
        run = closed(entry.run, "lost", utc_now(), reason=storable(reason), charged=charged)
        entry.replace(run.model_copy(update={"status": RunStatus.PENDING, "progress": 0.0, "started_at": None}))

    async def load_failed(self, lane: Lane, failure: RunFailure) -> None:
        """A replica could not load: what waits for the lane fails, unless another replica works."""
        if not self.lanes.is_worked_on(lane) and lane not in self.supervisor.followed_lanes():
            await self._fail_waiting(lane, failure)

    def waits(self, lane: Lane, shortage: str | None) -> None:
        """Tell in the logs of what waits for a lane what its replicas wait for, once; see `Owner`."""
        if self.lanes.is_worked_on(lane):
            return  # what waits will begin
        untold = [entry for entry in self.lanes.waiting(lane) if entry.shortage != shortage]
        for entry in untold:
            entry.shortage = shortage
            if shortage is not None:
                entry.note("WARNING", shortage)
        if untold and shortage is not None:
            logger.warning("%d runs of %s %s on %s: each %s", len(untold), *lane, shortage)

    async def stuck(self, lane: Lane, reason: str) -> None:
        """No replica can load: what waits for the lane fails; see `Owner`."""
        message = f"no replica of {lane.algorithm} {lane.version} could be started on {lane.device}: {reason}"
        await self._fail_waiting(
            lane, RunFailure(code="load_failed", type="LoadFailedError", message=storable(message))
        )

    async def _fail_waiting(self, lane: Lane, failure: RunFailure) -> None:
        # All before the first wait: who calls may be cancelled, since nothing waits for its lane any more.
        await asyncio.gather(*[self._endings.fail(entry, failure) for entry in self.lanes.waiting(lane)])

    async def _has_gone(self, entry: Entry, replica: str) -> None:
        """The replica of an attempt that was followed has ended."""
        self.lanes.free(replica)
        await self.lost(entry, replica, ReplicaGoneError("its replica has ended"))

    async def _repeat(self, entry: Entry, failure: RunFailure | None) -> None:
        """Queue a run again that failed because the store was away; when it is back."""
        reason = failure.message if failure is not None else ""
        entry.note("WARNING", f"attempt {entry.run.attempts} failed by no fault of its own: {reason}")
        self.put_back(entry, reason)
        await self._journal.save(entry)
        if entry.ending is None and self._ledger.has(entry):
            self.enqueue(entry, first=True)

    def _current(self, attempt: AttemptKey) -> Entry | None:
        """The live run, if this is its present attempt: also one that a crash has hidden, which is adopted."""
        entry = self._ledger.live.get(attempt.run_id)
        if entry is None:
            return None
        run = entry.run
        if run.status is RunStatus.PENDING and entry.ending is None and attempt.number > run.attempts:
            self.lanes.remove(entry.lane, entry)
            self._begin(entry, attempt.number, attempt.replica)
            self._follow(entry)
        return entry if entry.attempt == attempt else None

    def _begin(self, entry: Entry, number: int, replica: str) -> None:
        entry.shortage = None
        entry.replace(begun(entry.run, number, replica, utc_now()))
        if number > 1:
            entry.note("INFO", f"the run is retried as attempt {number}")
        self._journal.save_soon(entry)

    def _follow(self, entry: Entry) -> None:
        """An attempt goes on that this coordinator has not granted."""
        self.supervisor.started(entry)
        self.supervisor.follow(entry)

    async def _counts(self, run_id: str, outcome: Outcome) -> bool:
        """Whether the outputs of an attempt are those of its run."""
        if not outcome.output_dataset_ids:
            return True
        entry = self._ledger.find(run_id)
        try:
            run = entry.run if entry is not None else await asyncio.to_thread(self._records.find, run_id)
        except NotFoundError:
            return False
        return set(outcome.output_dataset_ids) <= set(run.output_dataset_ids)


def _is_to_be_repeated(entry: Entry, failure: RunFailure | None) -> bool:
    """Whether an attempt failed by no fault of its own, and is not the last one."""
    away = failure is not None and failure.code == StoreUnavailableError.code
    return away and charged(entry.run) < MAX_ATTEMPTS - 1


def _is_over(attempt: AttemptKey, entry: Entry) -> bool:
    """Whether a run is that of an attempt, and has no later one."""
    return entry.run.id == attempt.run_id and entry.attempt in (None, attempt)


def _run_of(entry: Entry | None) -> Run | None:
    return None if entry is None else entry.run
