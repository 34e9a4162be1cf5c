"""The coordinator: owns the live state of all runs of one cluster, and puts its parts together; knows no Ray.

Everything runs on one event loop; only the store is called in threads. A run's record is written before the client
hears of it, and its outcome before anyone is told that it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import datetime

from t3d_server.errors import ExpiredError, NotFoundError
from t3d_server.models import Device, LogLine, Manifest, Run, RunFailure, RunNews, RunRequest, RunStatus
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.endings import Endings
from t3d_server.runs.entry import Entry
from t3d_server.runs.executor import Outcome
from t3d_server.runs.grants import STARTED_AGAIN, Answer, Grants, Receipt
from t3d_server.runs.journal import Journal, Outputs
from t3d_server.runs.lanes import Dispatcher, Lane
from t3d_server.runs.ledger import Ledger
from t3d_server.runs.log import run_fields
from t3d_server.runs.ownership import Ownership
from t3d_server.runs.reception import Catalog, Reception
from t3d_server.runs.records import Record, RunRecords
from t3d_server.runs.recovery import Recovery
from t3d_server.runs.supervision import CANCELLED
from t3d_server.runs.tasks import Tasks

logger = logging.getLogger(__name__)

CANCEL_S = 5.0
"""Cancelling waits this long for the store."""


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
        ended: hears of each run that has ended.
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
        ended: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self._records = records
        self._catalog = catalog
        self._ended = ended
        self._tasks = Tasks()
        self._journal = Journal(records, outputs, lambda: ownership.id, lambda entry: self._ledger.has(entry))
        self._ledger = Ledger(lambda entry: self._lanes.position(entry.lane, entry))
        self._endings = Endings(
            self._journal,
            self._ledger,
            lambda entry: self._lanes.remove(entry.lane, entry),
            self._has_ended,
        )
        self._grants = Grants(
            dispatcher, slots, limits.cancel_grace_s, self._ledger, records, self._journal, self._endings
        )
        self._lanes = self._grants.lanes
        self._recovery = Recovery(ownership, records, self)
        self._reception = Reception(
            records,
            self._journal,
            catalog,
            devices,
            limits,
            self._lanes,
            self._ledger.find,
            self._ledger.longest_s,
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
        entries = self._ledger.live.values()
        working = [entry for entry in entries if entry.attempt is not None and entry.ending is None]
        for entry in working:
            self._grants.put_back(entry, "the server was stopped", charged=False)
        ending = [entry.ending for entry in entries if entry.ending is not None]
        await asyncio.gather(*map(self._journal.save, working), *map(self._journal.save_log, working), *ending)
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
        return self._ledger.view(found) if isinstance(found, Entry) else found

    def begin(self, call_id: str, replica: str) -> Run | None:
        """A replica that was called asks for a run.

        Args:
            call_id: the call.
            replica: name of the replica, by which it can be found and ended.

        Returns:
            The run, with the number of this attempt in `attempts`; None if there is nothing to do any more.
        """
        return self._grants.begin(call_id, replica)

    def report(
        self, attempt: AttemptKey, progress: float | None, lines: Iterable[LogLine], *, repeats: bool = False
    ) -> Answer:
        """A replica tells how far an attempt is.

        Of an attempt that a crash of the coordinator has hidden, this is how the next coordinator learns.

        Args:
            attempt: the attempt.
            progress: how far it is, where that is new.
            lines: new lines of its log.
            repeats: before them come the latest ones that were sent before.
        """
        return self._grants.report(attempt, progress, lines, repeats=repeats)

    async def finish(self, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: Iterable[LogLine]) -> Receipt:
        """A replica delivers the outcome of an attempt with the last lines of its log, and asks for the next run.

        Returns once the outcome is stored. Delivering it again is harmless.

        Raises:
            StoreUnavailableError: it is to be delivered again.
        """
        return await self._grants.finish(call_id, attempt, outcome, lines)

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run: a queued one at once, a running one at its next call back or soon by force.

        One that has ended stays as it is.

        Raises:
            RunNotFoundError: there is no live run with this id.
            StoreUnavailableError: it was just being submitted, and could not be recorded.
        """
        entry = await self._reception.arrived(run_id) or self._ledger.require(run_id)
        if not entry.run.status.ended and not entry.run.cancel_requested:
            entry.update(cancel_requested=True)
            storing: asyncio.Future[None]
            if entry.run.status is RunStatus.PENDING:
                failure = CANCELLED.model_copy(update={"message": "the run was cancelled in the queue"})
                storing = self._endings.end(entry, RunStatus.CANCELLED, error=failure)
            else:
                self._grants.supervisor.stop(entry, CANCELLED)
                storing = self._tasks.start(self._journal.save(entry))
            # Not for ever: while the store is down, the run is as it is, and ends as soon as it can.
            await asyncio.wait([storing], timeout=CANCEL_S)
        return self._ledger.view(entry)

    async def get(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run that is live or has ended lately.

        Args:
            run_id: its id.
            wait_s: wait up to this long for it to end.

        Raises:
            RunNotFoundError: it is neither.
        """
        return await self._ledger.get(run_id, wait_s)

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
        return await self._ledger.news(run_id, seen, after, wait_s)

    def log(self, run_id: str) -> list[LogLine]:
        """The log so far of a live run.

        Raises:
            RunNotFoundError: it is not live; its log is stored if it has ended.
        """
        return self._ledger.log(run_id)

    def live_runs(self) -> list[Run]:
        """Runs that have not ended, or are not in the index of ended ones yet; newest first."""
        return self._ledger.live_runs()

    def counts(self) -> Counter[tuple[str, RunStatus]]:
        """How many live runs of each algorithm are in each state."""
        return Counter((entry.run.algorithm, entry.run.status) for entry in self._ledger.live.values())

    async def load_failed(self, lane: Lane, failure: RunFailure) -> None:
        """A replica could not load: what waits for the lane fails, unless another replica works."""
        await self._grants.load_failed(lane, failure)

    async def drain(self, algorithm: str, version: str, *, cancel: bool) -> None:
        """Take no new runs of a version, and wait until it has no live one.

        Args:
            algorithm: its name.
            version: its version.
            cancel: cancel the runs instead of letting them finish.
        """
        await self._reception.close(algorithm, version)
        for entry in list(self._ledger.live.values()):
            if (entry.run.algorithm, entry.run.version) != (algorithm, version):
                continue
            if cancel and self._ledger.has(entry):
                await self.cancel(entry.run.id)
            while not entry.run.status.ended and entry.run.id in self._ledger.live:
                await entry.changed.wait()

    def reopen(self, algorithm: str, version: str) -> None:
        """Take runs of a version again that was drained."""
        self._reception.reopen(algorithm, version)

    async def take_up(self, record: Record, *, ended: bool) -> None:
        """Go on with a run that was found in the store, or put its end on file; see `Taker`."""
        if record.id in self._ledger.live:
            return  # this was tried before, and the store went down in the midst of it
        if ended:
            self._endings.file(await asyncio.to_thread(self._records.find, record.id))
            return
        manifest = Manifest(name=record.algorithm, version=record.version)
        entry = Entry(record.run(), manifest, record.key, taken_up=True, is_behind=True)
        if record.attempts or record.logged:
            with suppress(ExpiredError):
                entry.restore_log(await asyncio.to_thread(self._records.log, record.id))
        entry.stop = CANCELLED if record.cancel_requested else None
        self._ledger.live[record.id] = entry
        try:
            entry.manifest = self._catalog.find(record.algorithm, record.version).manifest
        except NotFoundError as error:
            failure = RunFailure(code=error.code, type=type(error).__name__, message=error.message)
            await self._endings.fail(entry, failure)
            return
        if entry.attempt is None:  # else it is said after the lines that its replica repeats
            entry.note("WARNING", STARTED_AGAIN)
        if entry.attempt is None and entry.stop is not None:
            await self._endings.end(entry, RunStatus.CANCELLED, error=entry.stop)
        else:
            self._grants.resume(entry)

    async def catch_up(self) -> None:
        """Take notice of the versions that runs of another cluster may need."""
        await self._catalog.refresh()

    def disown(self) -> None:
        """Another cluster has taken over all runs: forget them, and have replicas stop."""
        entries = list(self._ledger.live.values())
        self._ledger.live.clear()
        self._lanes.clear()
        for entry in entries:
            entry.cancel_timers()
            entry.replace(entry.run)

    def pause(self, for_s: float) -> None:
        """Begin no run for some time: replicas that work on one will have said so then."""
        self._lanes.pause()
        asyncio.get_running_loop().call_later(for_s, self._lanes.resume)

    def _has_ended(self, run: Run) -> None:
        self._reception.has_ended(run)
        self._ended(run)

    def _admit(self, entry: Entry) -> None:
        """Have a run that is on record wait for its turn."""
        self._ledger.live[entry.run.id] = entry
        if entry.has_log:
            self._journal.save_log_soon(entry)
        logger.info("run %s is accepted", entry.run.id, extra=run_fields(entry.run))
        self._grants.enqueue(entry)
