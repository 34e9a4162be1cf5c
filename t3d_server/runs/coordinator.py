"""The coordinator's logic: grants attempts, keeps the live state of runs, ends them; knows no Ray.

Everything runs on one event loop; only the store is called in threads. A run's record is written before the client
hears of it, and its outcome before anyone is told that it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from t3d_server.errors import NotFoundError, RunNotFoundError, StoreUnavailableError
from t3d_server.models import Device, LogLine, Manifest, Run, RunFailure, RunNews, RunRequest, RunStatus, utc_now
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.attempts import AttemptKey, begun, charged, closed
from t3d_server.runs.entry import Entry
from t3d_server.runs.executor import Outcome
from t3d_server.runs.journal import Journal, Outputs
from t3d_server.runs.lanes import Dispatcher, Lane, Lanes
from t3d_server.runs.log import end_line, run_fields, storable
from t3d_server.runs.ownership import Ownership
from t3d_server.runs.reception import Catalog, Reception
from t3d_server.runs.records import Record, RunRecords
from t3d_server.runs.recovery import Recovery
from t3d_server.runs.supervision import CANCELLED, Supervisor, status_after

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
ENDED_RUNS_IN_MEMORY = 1000
QUEUE_LOOK_S = 2.0
CANCEL_S = 5.0
"""Cancelling waits this long for the store."""


@dataclass(frozen=True)
class Receipt:
    """What a replica is told when it has delivered an outcome.

    Attributes:
        counts: whether its outputs are those of the run; else it is to remove them.
        following: the run to work on next, if there is one.
    """

    counts: bool
    following: Run | None


class Coordinator:
    """Owns the live state of all runs of one cluster.

    Args:
        records: the durable records.
        outputs: what runs have made.
        ownership: tells which runs are this cluster's.
        catalog: finds published versions.
        dispatcher: calls replicas.
        devices: tells which devices the cluster has.
        slots: how many calls of a manifest's replicas may be open at a time, on a device.
        limits: what is allowed.
    """

    def __init__(
        self,
        records: RunRecords,
        outputs: Outputs,
        ownership: Ownership,
        catalog: Catalog,
        dispatcher: Dispatcher,
        devices: Callable[[], Collection[Device]],
        slots: Callable[[Manifest, Device], int],
        limits: RunLimits,
    ) -> None:
        self._records = records
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._slots = slots
        self._live: dict[str, Entry] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lanes = Lanes[Entry](dispatcher, self)
        self._journal = Journal(records, outputs, lambda: ownership.id)
        self._supervisor = Supervisor(dispatcher, self._live, self.lost, limits.cancel_grace_s)
        self._recovery = Recovery(ownership, records, self)
        self._reception = Reception(
            records,
            self._journal,
            catalog,
            devices,
            limits,
            self._lanes,
            lambda run_id: self._live.get(run_id) or self._ended.get(run_id),
            self._admit,
            self._recovery.hold_lease,
        )

    async def recover(self) -> None:
        """Take up the runs that had not ended when the coordinator last stopped, and those of clusters that are gone.

        From then on the runs of clusters that go are taken up too.
        """
        await self._recovery.begin()

    async def release(self) -> None:
        """Leave all runs to the next cluster, at once: this one is shut down."""
        self._lanes.pause()
        working = [entry for entry in self._live.values() if entry.attempt is not None and entry.ending is None]
        for entry in working:
            self._put_back(entry, "the server was stopped", charged=False)
        ending = [entry.ending for entry in self._live.values() if entry.ending is not None]
        await asyncio.gather(*map(self._journal.save, working), *ending)
        await self._recovery.end()

    async def submit(self, algorithm: str, request: RunRequest, run_id: str, key: str | None = None) -> Run:
        """Accept a run; from the moment this returns it will reach an end.

        Args:
            algorithm: what to run.
            request: how.
            run_id: a new id; submitting again under the same one gives the same run.
            key: chosen by the client; submitting the same again with it gives the same run, under another id too.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError: there is no such algorithm or version.
            InvalidRequestError, InvalidArgsError, DeviceNotSupportedError: see `accept`; or the key was used for
                another request.
            QueueFullError: as many runs wait as may.
            StoreUnavailableError: the run could not be recorded and was not accepted.
        """
        found = await self._reception.submit(algorithm, request, run_id, key)
        return self._view(found) if isinstance(found, Entry) else found

    def begin(self, call_id: str, replica: str) -> Run | None:
        """A replica that was called asks for a run.

        Args:
            call_id: the call.
            replica: name of the replica, by which it can be found and ended.

        Returns:
            The run, with the number of this attempt in `attempts`; None if there is nothing to do any more.
        """
        return _run_of(self._lanes.begin(call_id, replica))

    def report(self, attempt: AttemptKey, progress: float | None, lines: Iterable[LogLine]) -> bool:
        """A replica tells how far an attempt is.

        Of an attempt that a crash of the coordinator has hidden, this is how the next coordinator learns.

        Returns:
            Whether it is to go on.
        """
        entry = self._current(attempt)
        if entry is None or entry.ending is not None:
            return False
        entry.hear(progress, lines)
        return entry.stop is None

    async def finish(self, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: Iterable[LogLine]) -> Receipt:
        """A replica delivers the outcome of an attempt with the last lines of its log, and asks for the next run.

        Returns once the outcome is stored. Delivering it again is harmless.

        Raises:
            StoreUnavailableError: it is to be delivered again.
        """
        entry = self._current(attempt)
        if entry is not None:
            if entry.ending is None:
                entry.hear(None, lines)
            if entry.ending is None and entry.stop is None and _is_to_be_repeated(entry, outcome.error):
                self._lanes.let_go(call_id, entry)
                await self._repeat(entry, outcome.error)
            else:
                await self._deliver(entry, outcome)
        return Receipt(
            counts=await self._counts(attempt.run_id, outcome),
            following=_run_of(self._lanes.next(call_id, lambda item: _is_over(attempt, item))),
        )

    async def _deliver(self, entry: Entry, outcome: Outcome) -> None:
        status, error = outcome.status, outcome.error
        if status is RunStatus.CANCELLED and entry.stop is not None:
            status, error = status_after(entry.stop), entry.stop
        await self._end(
            entry, status, attempt=_WAYS[status], output_dataset_ids=list(outcome.output_dataset_ids), error=error
        )

    async def _repeat(self, entry: Entry, failure: RunFailure | None) -> None:
        """Queue a run again that failed because the store was away; when it is back."""
        reason = failure.message if failure is not None else ""
        entry.note("WARNING", f"attempt {entry.run.attempts} failed by no fault of its own: {reason}")
        self._put_back(entry, reason)
        await self._journal.save(entry)
        if entry.ending is None and self._live.get(entry.run.id) is entry:
            self._enqueue(entry, first=True)

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run: a queued one at once, a running one at its next call back or soon by force.

        One that has ended stays as it is.

        Raises:
            RunNotFoundError: there is no live run with this id.
        """
        entry = self._entry(run_id)
        if not entry.run.status.ended and not entry.run.cancel_requested:
            entry.update(cancel_requested=True)
            if entry.run.status is RunStatus.PENDING:
                failure = CANCELLED.model_copy(update={"message": "the run was cancelled in the queue"})
                storing = self._end(entry, RunStatus.CANCELLED, error=failure)
            else:
                self._supervisor.stop(entry, CANCELLED)
                storing = self._journal.save(entry)
            # Not for ever: while the store is down, the run is as it is, and ends as soon as it can.
            await asyncio.wait([self._spawn(storing)], timeout=CANCEL_S)
        return self._view(entry)

    async def get(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run that is live or has ended lately.

        Args:
            run_id: its id.
            wait_s: wait up to this long for it to end.

        Raises:
            RunNotFoundError: it is neither.
        """
        entry = self._entry(run_id)
        deadline = asyncio.get_running_loop().time() + wait_s
        while not entry.run.status.ended:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                await asyncio.wait_for(entry.changed.wait(), left)
            except TimeoutError:
                break
            self._entry(run_id)  # it may have been left to another cluster
        return self._view(entry)

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """What is new of a run: at once if there is anything, else as soon as there is.

        Args:
            run_id: its id.
            seen: the run as it is known.
            after: time of the last line of its log that is known.
            wait_s: longest time to wait, in seconds.

        Raises:
            RunNotFoundError: it neither is live nor has ended lately.
        """
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            entry = self._entry(run_id)
            changed = entry.changed
            news = RunNews(run=self._view(entry), lines=entry.lines_after(after))
            left_s = deadline - asyncio.get_running_loop().time()
            if news.run != seen or news.lines or news.run.status.ended or left_s <= 0:
                return news
            # Its place in the queue changes by what becomes of others.
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left_s, QUEUE_LOOK_S))

    def log(self, run_id: str) -> list[LogLine]:
        """The log so far of a live run.

        Raises:
            RunNotFoundError: it is not live; its log is stored if it has ended.
        """
        if run_id not in self._live:
            raise RunNotFoundError(f"run {run_id!r} is not live")
        return self._live[run_id].log()

    def live_runs(self) -> list[Run]:
        """Runs that have not ended, or are not in the index of ended ones yet; newest first."""
        return [self._view(self._live[run_id]) for run_id in sorted(self._live, reverse=True)]

    async def load_failed(self, lane: Lane, failure: RunFailure) -> None:
        """A replica could not load: what waits for the lane fails, unless another replica works."""
        if not self._lanes.is_worked_on(lane) and all(entry.lane != lane for entry in self._supervisor.followed()):
            await self._fail_waiting(lane, failure)

    async def stuck(self, lane: Lane, reason: str) -> None:
        """No replica could be called, for long: what waits for the lane fails; see `Owner`."""
        message = f"no replica of {lane.algorithm} {lane.version} could be started on {lane.device}: {reason}"
        await self._fail_waiting(
            lane, RunFailure(code="load_failed", type="LoadFailedError", message=storable(message))
        )

    async def _fail_waiting(self, lane: Lane, failure: RunFailure) -> None:
        await asyncio.gather(*(self._fail(entry, failure) for entry in self._lanes.waiting(lane)))

    async def drain(self, algorithm: str, version: str, *, cancel: bool) -> None:
        """Take no new runs of a version, and wait until it has no live one.

        Args:
            algorithm: its name.
            version: its version.
            cancel: cancel the runs instead of letting them finish.
        """
        await self._reception.close(algorithm, version)
        for entry in list(self._live.values()):
            if (entry.run.algorithm, entry.run.version) != (algorithm, version):
                continue
            if cancel:
                await self.cancel(entry.run.id)
            while not entry.run.status.ended and entry.run.id in self._live:
                await entry.changed.wait()

    def reopen(self, algorithm: str, version: str) -> None:
        """Take runs of a version again that was drained."""
        self._reception.reopen(algorithm, version)

    async def take_up(self, record: Record, *, ended: bool) -> None:
        """Go on with a run that was found in the store, or put its end on file."""
        if record.id in self._live:
            return  # this was tried before, and the store went down in the midst of it
        if ended:
            run = await asyncio.to_thread(self._records.find, record.id)
            self._spawn(self._journal.file(run, taken_up=True))
            return
        entry = Entry(record.run(), Manifest(name=record.algorithm, version=record.version), record.key, taken_up=True)
        entry.stop = CANCELLED if record.cancel_requested else None
        self._live[record.id] = entry
        try:
            entry.manifest = self._catalog.find(record.algorithm, record.version).manifest
        except NotFoundError as error:
            await self._fail(entry, RunFailure(code=error.code, type=type(error).__name__, message=error.message))
            return
        entry.note("WARNING", "the server was started again")
        if entry.attempt is None and entry.stop is not None:
            await self._end(entry, RunStatus.CANCELLED, error=entry.stop)
        elif entry.attempt is None:
            self._enqueue(entry)
        elif await self._dispatcher.is_gone(entry.attempt.replica):
            await self.lost(entry, entry.attempt.replica, "its replica has ended")
        else:
            self._follow(entry)

    async def catch_up(self) -> None:
        """Take notice of the versions that runs of another cluster may need."""
        await self._catalog.refresh()

    def disown(self) -> None:
        """Another cluster has taken over all runs: forget them, and have replicas stop."""
        entries = list(self._live.values())
        self._live.clear()
        self._lanes.clear()
        for entry in entries:
            entry.cancel_timers()
            entry.replace(entry.run)

    def pause(self, for_s: float) -> None:
        """Begin no run for some time: replicas that work on one will have said so then."""
        self._lanes.pause()
        asyncio.get_running_loop().call_later(for_s, self._lanes.resume)

    def begun(self, item: Entry, replica: str) -> None:
        """A replica has taken a run; see `Owner`."""
        self._begin(item, item.run.attempts + 1, replica)
        self._supervisor.started(item)

    async def lost(self, item: Entry, replica: str, reason: str) -> None:
        """Queue a run whose attempt was lost, or end it if that was the last one; see `Owner`."""
        attempt = item.attempt
        if attempt is None or attempt.replica != replica or item.ending is not None:
            return  # something else has become of it
        if self._live.get(item.run.id) is not item:
            return
        killed = self._supervisor.has_killed(replica)
        if killed and item.stop is not None:
            await self._end(item, status_after(item.stop), attempt="killed", error=item.stop)
            return
        if killed:
            reason = "its replica was stopped because of another run, which did not stop by itself"
        item.note("WARNING", f"attempt {item.run.attempts} was lost: {reason}")
        logger.warning(
            "run %s: attempt %d was lost: %s", item.run.id, item.run.attempts, reason, extra=run_fields(item.run)
        )
        if item.stop is not None:
            await self._end(item, status_after(item.stop), error=item.stop)
            return
        self._put_back(item, reason, charged=not killed)
        if charged(item.run) >= MAX_ATTEMPTS:
            message = storable(f"all {MAX_ATTEMPTS} attempts were lost, the last one so: {reason}")
            await self._fail(item, RunFailure(code="attempts_exhausted", type="AttemptsExhausted", message=message))
        else:
            self._journal.save_soon(item)
            self._enqueue(item, first=True)

    def _begin(self, entry: Entry, number: int, replica: str) -> None:
        entry.replace(begun(entry.run, number, replica, utc_now()))
        if number > 1:
            entry.note("INFO", f"the run is retried as attempt {number}")
        self._journal.save_soon(entry)

    def _put_back(self, entry: Entry, reason: str, *, charged: bool = True) -> None:
        """A run whose attempt was lost waits again."""
        entry.cancel_timers()
        run = closed(entry.run, "lost", utc_now(), reason=storable(reason), charged=charged)
        entry.replace(run.model_copy(update={"status": RunStatus.PENDING, "progress": 0.0, "started_at": None}))

    def _entry(self, run_id: str) -> Entry:
        entry = self._live.get(run_id) or self._ended.get(run_id)
        if entry is None:
            raise RunNotFoundError(f"run {run_id!r} is not live")
        return entry

    def _current(self, attempt: AttemptKey) -> Entry | None:
        """The live run, if this is its present attempt: also one that a crash has hidden, which is adopted."""
        entry = self._live.get(attempt.run_id)
        if entry is None:
            return None
        run = entry.run
        if run.status is RunStatus.PENDING and entry.ending is None and attempt.number > run.attempts:
            self._lanes.remove(entry.lane, entry)
            self._begin(entry, attempt.number, attempt.replica)
            self._follow(entry)
        return entry if entry.attempt == attempt else None

    def _follow(self, entry: Entry) -> None:
        """An attempt goes on that this coordinator has not granted."""
        self._supervisor.started(entry)
        self._supervisor.follow(entry)

    async def _counts(self, run_id: str, outcome: Outcome) -> bool:
        """Whether the outputs of an attempt are those of its run."""
        if not outcome.output_dataset_ids:
            return True
        entry = self._live.get(run_id) or self._ended.get(run_id)
        try:
            run = entry.run if entry is not None else await asyncio.to_thread(self._records.find, run_id)
        except NotFoundError:
            return False
        return set(outcome.output_dataset_ids) <= set(run.output_dataset_ids)

    def _view(self, entry: Entry) -> Run:
        """The run as clients see it."""
        return entry.run.model_copy(update={"queue_position": self._lanes.position(entry.lane, entry)})

    def _admit(self, entry: Entry) -> None:
        self._live[entry.run.id] = entry
        logger.info("run %s is accepted", entry.run.id, extra=run_fields(entry.run))
        self._enqueue(entry)

    def _enqueue(self, entry: Entry, *, first: bool = False) -> None:
        self._lanes.add(entry.lane, entry, slots=self._slots(entry.manifest, entry.run.resolved_device), first=first)

    async def _fail(self, entry: Entry, failure: RunFailure) -> None:
        await self._end(entry, RunStatus.FAILED, error=failure)

    async def _end(
        self, entry: Entry, status: RunStatus, *, attempt: _Way = "lost", error: RunFailure | None, **fields: Any
    ) -> None:
        """End a run: store its outcome, then tell. Whoever comes second waits for the first.

        Args:
            entry: the run.
            status: how it ends.
            attempt: how its attempt ended, if one goes on.
            error: why it has no result.
            fields: more of the run.
        """
        if entry.ending is None:
            if error is not None:
                entry.tell(end_line(error))
            self._lanes.remove(entry.lane, entry)
            now = utc_now()
            run = closed(entry.run, attempt, now)
            fields |= {"status": status, "error": error, "progress": 1.0, "ended_at": now}
            entry.ending = self._spawn(self._store_end(entry, run.model_copy(update=fields)))
        await asyncio.shield(entry.ending)

    async def _store_end(self, entry: Entry, run: Run) -> None:
        entry.replace(await self._journal.end(entry, run))
        logger.info("run %s has ended: %s", run.id, entry.run.status, extra=run_fields(entry.run))
        self._reception.has_ended(entry.run)
        self._spawn(self._file(entry))

    async def _file(self, entry: Entry) -> None:
        """What may follow after an end was told: until it is in the index, the run is listed as a live one."""
        await self._journal.file(entry.run, taken_up=entry.taken_up)
        if self._live.pop(entry.run.id, None) is None:
            return  # left to another cluster
        entry.clear_log()
        self._ended[entry.run.id] = entry
        while len(self._ended) > ENDED_RUNS_IN_MEMORY:
            self._ended.popitem(last=False)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_Way = Literal["completed", "failed", "cancelled", "lost", "killed"]
_WAYS: dict[RunStatus, _Way] = {
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


def _is_to_be_repeated(entry: Entry, failure: RunFailure | None) -> bool:
    """Whether an attempt failed by no fault of its own, and is not the last one."""
    away = failure is not None and failure.code == StoreUnavailableError.code
    return away and charged(entry.run) < MAX_ATTEMPTS - 1


def _is_over(attempt: AttemptKey, entry: Entry) -> bool:
    """Whether a run is that of an attempt, and has no later one."""
    return entry.run.id == attempt.run_id and entry.attempt in (None, attempt)


def _run_of(entry: Entry | None) -> Run | None:
    return None if entry is None else entry.run
