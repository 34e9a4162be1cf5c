"""The scheduler of runs: one method for each event, in the order of a run's life; knows no Ray.

Everything happens on one event loop; only the store is called in threads. A run is on record before its client gets its
id, and its outcome before anyone learns that it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Literal

from t3d_server.clock import SYSTEM_CLOCK, Clock
from t3d_server.errors import NotFoundError, ServerUnavailableError, StoreUnavailableError
from t3d_server.models import Device, Manifest, Run, RunFailure, RunRequest, RunStatus
from t3d_server.run_log import run_fields, storable
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import Leftovers
from t3d_server.run_store.former.importer import FormerLayout
from t3d_server.run_store.former.objects import FormerObjects
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.records import FencedError, NotOwnedError, StoredRun
from t3d_server.run_store.timings import Timings
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.admission import Admission, Catalog
from t3d_server.runs.expiry import Datasets, Expiry
from t3d_server.runs.interface import AttemptKey, Lines, Outcome, QueueName, Receipt, ReportAnswer
from t3d_server.runs.live_run import LiveRun, RunState, charged_attempts
from t3d_server.runs.lookup import TAKEN_OVER, Lookup
from t3d_server.runs.queues import Queues
from t3d_server.runs.recording import Recorder
from t3d_server.runs.replica_calls import ReplicaCalls, ReplicaGoneError, Replicas
from t3d_server.runs.submission import Submissions
from t3d_server.runs.takeover import Takeover
from t3d_server.runs.tasks import Tasks
from t3d_server.runs.timeouts import CANCELLED, Timeouts, status_after

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
ELSEWHERE = "the run is that of another cluster on this bucket: cancel it there, or try again once that is gone"
_ATTEMPT_ENDS: dict[RunStatus, Literal["completed", "failed", "cancelled"]] = {
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


class RunScheduler:
    """Owns the runs of one cluster; implements `interface.Runs`.

    Args:
        history: the ended runs, in the store that has the log.
        datasets: what runs have read and made.
        cluster: id of the cluster; kept when its coordinator is started again.
        catalog: finds published versions.
        replicas: calls replicas.
        devices: tells which devices the cluster has.
        slots: how many runs of a manifest its replicas can work on at a time, on a device.
        limits: what is allowed.
        ended: is called for each run that has ended.
        clock: the clock.
        executor: threads for calls of the store; None for those of the event loop.
        timings: how long what takes.
    """

    def __init__(
        self,
        history: RunHistory,
        datasets: Datasets,
        *,
        cluster: str,
        catalog: Catalog,
        replicas: Replicas,
        devices: Callable[[], Collection[Device]],
        slots: Callable[[Manifest, Device], int],
        limits: RunLimits,
        ended: Callable[[Run], None] = lambda run: None,
        clock: Clock = SYSTEM_CLOCK,
        executor: Executor | None = None,
        timings: Timings | None = None,
    ) -> None:
        self._history = history
        self._catalog = catalog
        self._slots = slots
        self._ended = ended
        self._clock = clock
        self._timings = timings = timings or Timings()
        self._tasks = Tasks()
        self._live: dict[str, LiveRun] = {}
        self._endings: dict[LiveRun, asyncio.Task[None]] = {}
        self._cancels: dict[LiveRun, asyncio.Future[None]] = {}
        self._log = EventLog(
            history.store, cluster, clock=clock, executor=executor, timings=timings, fenced=self._disown
        )
        self._queues = Queues()
        former = FormerObjects(history.store)
        self._lookup = Lookup(self._live, self._queues, self._log, history, former, clock, timings)
        lookup = self._lookup
        self.get, self.news, self.log, self.list = lookup.get, lookup.news, lookup.log, lookup.newest
        self._calls = ReplicaCalls(
            replicas,
            self._queues,
            timings,
            begun=self._begun,
            lost=self._lost,
            waits=self._waits,
            stuck=self._stuck,
        )
        self._timeouts = Timeouts(
            replicas,
            clock,
            timings,
            limits.cancel_grace_s,
            timed_out=self._time_out,
            replica_ended=self._replica_ended,
        )
        self._admission = Admission(catalog, devices, limits, self._queues, self._lookup.longest_s, clock)
        self._submissions = Submissions(self._admission, self._log, self._lookup, self._live, self._admit)
        self._recorder = Recorder(self._log, history.store, timings)
        self._takeover = Takeover(self._log, clock, timings, self._adopt)
        self._compactor = Compactor(self._log, history.store, clock=clock, timings=timings)
        self._former_layout = FormerLayout(
            self._log, former, history, self._compactor, clock=clock, timings=timings, adopt=self._adopt
        )
        self._expiry = Expiry(self._log, history, datasets, replicas, self._compactor, clock=clock, timings=timings)
        self._watching: list[asyncio.Task[None]] = []

    # Start and stop

    async def start(self) -> None:
        """Take up the runs that had not ended when the coordinator last stopped; go on with those of clusters that are
        gone, and with what has expired.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
            ServerUnavailableError: another process has taken over in this moment; to be called again.
        """
        if self._watching:
            return
        try:
            await self._log.start()
        except FencedError as error:
            raise ServerUnavailableError(TAKEN_OVER) from error
        if any(stored.owner == self._log.cluster for stored in self._log.state.open.values()):
            self._calls.hold("announce")
        await self._adopt()
        await self._former_layout.step()
        # Only now: until this returns, no replica can report.
        asyncio.get_running_loop().call_later(self._timings.announce_s, self._calls.unhold, "announce")
        watches = (self._takeover.watch(), self._compactor.watch(), self._import_and_expire())
        self._watching = [self._tasks.start(watch) for watch in (*watches, self._expiry.watch_leftovers())]

    async def release(self) -> None:
        """Leave all runs to the next cluster, at once: this one is shut down."""
        self._calls.hold("released")
        for task in self._watching:
            task.cancel()
        for run in list(self._live.values()):
            if run.state is RunState.RUNNING:
                self._wait_again(run, "the server was stopped", charged=False)
        await asyncio.gather(*self._endings.values(), *map(self._recorder.save_log, list(self._live.values())))
        try:
            await self._log.leave()
        finally:
            self._disown()

    async def drain(self, algorithm: str, version: str, *, cancel: bool) -> None:
        """Take no new runs of a version, and wait until it has no live one.

        Args:
            algorithm: its name.
            version: its version.
            cancel: cancel the runs instead of letting them finish.

        Raises:
            StoreUnavailableError, ServerUnavailableError: runs cannot be cancelled now; to be called again.
        """
        self._admission.close(algorithm, version)

        def is_of_it(run: LiveRun) -> bool:
            return (run.run.algorithm, run.run.version) == (algorithm, version)

        await self._submissions.all_arrived(algorithm, version)
        for run in filter(is_of_it, list(self._live.values())):
            if cancel and run.goes_on:
                await self.cancel(run_id=run.run.id)
            while run.state not in (RunState.ENDED, RunState.DISOWNED):
                await run.changed.wait()

    def reopen(self, algorithm: str, version: str) -> None:
        """Take runs of a version again that was drained."""
        self._admission.reopen(algorithm, version)

    async def _adopt(self) -> None:
        """Go on with the runs that are on record as this cluster's, and that it does not know yet."""
        mine = [stored for stored in self._log.state.open.values() if stored.owner == self._log.cluster]
        new = [stored for stored in mine if stored.run.id not in self._live and stored.run.id not in self._submissions]
        if new:
            await self._catalog.refresh()
        for stored in new:
            await self._recover(stored)

    async def _recover(self, stored: StoredRun) -> None:
        """Go on with a run that another process has left."""
        failure: RunFailure | None = None
        manifest = Manifest(name=stored.run.algorithm, version=stored.run.version)
        try:
            manifest = self._catalog.find(stored.run.algorithm, stored.run.version).manifest
        except NotFoundError as error:
            failure = RunFailure(code=error.code, type=type(error).__name__, message=error.message)
        log = await self._lookup.stored_log(stored)
        if self._log.state.open.get(stored.run.id) is not stored:
            return  # it was withdrawn, or another cluster has it
        run = LiveRun(stored.run, manifest, self._clock, recovered=True)
        run.restore_log(log.lines, log.heard if log.attempt == stored.run.attempts else 0)
        run.stored_logs = [stored.log] if stored.log else []
        self._live[stored.run.id] = run
        if failure is not None:
            self._fail(run, failure)
        elif run.state is RunState.RUNNING:
            if stored.run.cancel_requested:
                run.stop(CANCELLED)
            self._follow(run)
        elif stored.run.cancel_requested:
            self._end(run, RunStatus.CANCELLED, error=CANCELLED)
        else:
            self._enqueue(run)

    def _disown(self) -> None:
        """Another process has this cluster's runs: forget them, and have replicas stop."""
        runs = list(self._live.values())
        self._live.clear()
        self._queues.clear()
        for run in runs:
            self._timeouts.attempt_ended(run)
            self._recorder.forget(run)
            self._cancels.pop(run, None)
            run.disown()
            self._calls.balance(run.queue)

    async def _import_and_expire(self) -> None:
        """Remove what has expired once all open runs are known, whose inputs stay."""
        await self._former_layout.watch()
        await self._expiry.watch_expired()

    # A run comes

    async def submit(self, *, algorithm: str, request: RunRequest, run_id: str, key: str | None) -> Run:
        """See `Runs.submit`."""
        return await self._submissions.submit(algorithm=algorithm, request=request, run_id=run_id, key=key)

    def _admit(self, run: LiveRun) -> None:
        """A run is on record: it waits for its turn."""
        self._live[run.run.id] = run
        logger.info("run %s is accepted", run.run.id, extra=run_fields(run.run))
        self._enqueue(run)

    def _enqueue(self, run: LiveRun, *, first: bool = False) -> None:
        self._queues.put(run, slots=self._slots(run.manifest, run.run.resolved_device), first=first)
        self._calls.balance(run.queue)

    # A replica works on it

    async def begin(self, *, call_id: str, replica: str) -> Run | None:
        """See `Runs.begin`."""
        run = self._calls.begin(call_id, replica) if await self._is_confirmed() else None
        return None if run is None else run.run

    async def _is_confirmed(self) -> bool:
        """Whether no other cluster can grant the same; returns once the end of the log was seen lately."""
        while not self._log.is_confirmed:
            try:
                await self._log.catch_up()
            except StoreUnavailableError:
                await asyncio.sleep(self._timings.store_retry_s)
            except FencedError:
                return False
        return True

    def _begun(self, run: LiveRun, replica: str) -> None:
        """A replica has taken a run."""
        run.begin(run.run.attempts + 1, replica)
        self._recorder.save_started_soon(run)
        self._timeouts.attempt_began(run)

    async def report(self, *, attempt: AttemptKey, progress: float | None, lines: Lines) -> ReportAnswer:
        """See `Runs.report`."""
        run = self._current(attempt)
        if run is None:
            self._timeouts.obsolete_reported(attempt)
            return ReportAnswer(go_on=False)
        resend_from = run.hear(progress, lines)
        if lines.lines and resend_from is None:
            self._recorder.save_log_soon(run)
        return ReportAnswer(go_on=run.state is RunState.RUNNING, resend_from=resend_from)

    def _current(self, attempt: AttemptKey) -> LiveRun | None:
        """The live run, if this is its present attempt: also one that a crash has hidden, which is adopted."""
        run = self._live.get(attempt.run_id)
        if run is None:
            return None
        if attempt.number > run.run.attempts and run.state in (RunState.QUEUED, RunState.RUNNING):
            if run.state is RunState.RUNNING:  # on an attempt that was lost, or there were no later one
                self._wait_again(run, "its replica has ended", charged=True)
            else:
                self._queues.remove(run)
                self._calls.balance(run.queue)
            run.begin(attempt.number, attempt.replica, hidden=True)
            self._recorder.save_started_soon(run)
            self._follow(run)
        return run if run.attempt == attempt else None

    def _follow(self, run: LiveRun) -> None:
        """An attempt goes on that this process has not granted."""
        if run.state is RunState.STOPPING:
            self._timeouts.stopping(run)
        else:
            self._timeouts.attempt_began(run)
        self._timeouts.follow(run)

    def _waits(self, queue: QueueName, shortage: str | None) -> None:
        """Replicas have not come yet: the logs of what waits tell what for, once."""
        if self._calls.is_worked_on(queue):
            return  # what waits will begin
        new = [run for run in self._queues.waiting(queue) if run.shortage != shortage]
        for run in new:
            run.shortage = shortage
            if shortage is not None:
                run.note("WARNING", shortage)
                self._recorder.save_log_soon(run)
        if new and shortage is not None:
            logger.warning("%d runs of %s %s on %s: each %s", len(new), *queue, shortage)

    # An attempt ends without an outcome

    async def _lost(self, run: LiveRun, replica: str, end: ReplicaGoneError) -> None:
        """The call has ended in which a replica worked on a run."""
        attempt = run.attempt
        if attempt is None or attempt.replica != replica:
            return  # something else has become of it
        if not end.certain:
            logger.warning("run %s: %s; it goes on all the same", run.run.id, end, extra=run_fields(run.run))
            run.leftovers = True
            self._timeouts.follow(run)
            return
        reason, killed = str(end), self._timeouts.has_killed(replica)
        if killed and run.stop_reason is None:
            reason = "its replica was stopped because of another run, which did not stop by itself"
        if not (killed and run.stop_reason is not None):
            run.note("WARNING", f"attempt {attempt.number} was lost: {reason}")
            logger.warning("run %s: attempt %d was lost: %s", *attempt[:2], reason, extra=run_fields(run.run))
        if run.stop_reason is not None:
            run.leftovers = True
            ending: Literal["killed", "lost"] = "killed" if killed else "lost"
            self._end(run, status_after(run.stop_reason), attempt=ending, error=run.stop_reason)
            return
        self._wait_again(run, reason, charged=end.charged and not killed)
        if charged_attempts(run.run) >= MAX_ATTEMPTS:
            message = storable(f"all {MAX_ATTEMPTS} attempts were lost, the last one so: {reason}")
            self._fail(run, RunFailure(code="attempts_exhausted", type="AttemptsExhausted", message=message))
        else:
            self._enqueue(run, first=True)

    def _wait_again(self, run: LiveRun, reason: str, *, charged: bool) -> None:
        """A run whose attempt was lost waits again, in no queue yet."""
        self._timeouts.attempt_ended(run)
        run.lose(reason, charged=charged)
        self._recorder.save(run, "requeued")
        self._recorder.save_log_soon(run)

    async def _replica_ended(self, run: LiveRun, replica: str) -> None:
        """The replica of an attempt that was followed has ended."""
        self._calls.replica_ended(replica)
        for each in list(self._live.values()):
            if each.attempt is not None and each.attempt.replica == replica:
                await self._lost(each, replica, ReplicaGoneError("its replica has ended"))

    async def _postpone(self, run: LiveRun, failure: RunFailure) -> None:
        """An attempt failed because the store was away: the run waits for a replica again when that is back."""
        run.note("WARNING", f"attempt {run.run.attempts} failed by no fault of its own: {failure.message}")
        self._timeouts.attempt_ended(run)
        run.postpone(failure.message)
        with suppress(FencedError, NotOwnedError):
            await self._recorder.save(run, "requeued").done
        if run.state is RunState.REQUEUED:
            run.requeue()
            self._enqueue(run, first=True)

    async def load_failed(self, *, queue: QueueName, failure: RunFailure) -> None:
        """See `Runs.load_failed`."""
        if self._calls.is_worked_on(queue) or self._timeouts.follows(queue):
            return
        runs = self._queues.waiting(queue)
        for run in runs:
            self._fail(run, failure)
        await asyncio.gather(*(asyncio.shield(self._endings[run]) for run in runs if run in self._endings))

    def _stuck(self, queue: QueueName, reason: str) -> None:
        """No replica can load: what waits fails."""
        message = f"no replica of {queue.algorithm} {queue.version} could be started on {queue.device}: {reason}"
        for run in self._queues.waiting(queue):
            self._fail(run, RunFailure(code="load_failed", type="LoadFailedError", message=storable(message)))

    # It is to stop

    async def cancel(self, *, run_id: str) -> Run:
        """See `Runs.cancel`."""
        await self._submissions.arrived(run_id)
        run = self._live.get(run_id)
        if run is None:
            stored = await self._lookup.stored(run_id)
            if not stored.run.status.ended:
                raise ServerUnavailableError(ELSEWHERE)
            return stored.run
        if run.state in (RunState.QUEUED, RunState.REQUEUED):
            failure = CANCELLED.model_copy(update={"message": "the run was cancelled in the queue"})
            self._end(run, RunStatus.CANCELLED, error=failure)
        elif run.goes_on and not run.run.cancel_requested:
            run.update(cancel_requested=True)
            self._stop(run, CANCELLED)
            self._cancels[run] = self._recorder.save(run, "cancel requested").done
        if (recording := self._endings.get(run) or self._cancels.get(run)) is not None:
            try:
                await asyncio.wait_for(asyncio.shield(recording), self._timings.cancel_s)
            except TimeoutError as error:
                message = "The object store does not answer: the cancellation is not on record yet; try again."
                raise StoreUnavailableError(message) from error
            except (FencedError, NotOwnedError) as error:
                raise ServerUnavailableError(TAKEN_OVER) from error
        if run.state is RunState.DISOWNED:
            raise ServerUnavailableError(TAKEN_OVER)
        return self._lookup.view(run)

    def _time_out(self, run: LiveRun, reason: RunFailure) -> None:
        """A run is past its deadline."""
        if run.state is RunState.RUNNING:
            run.note("WARNING", f"{reason.message}: it is told to stop")
            self._stop(run, reason)

    def _stop(self, run: LiveRun, reason: RunFailure) -> None:
        first = run.state is RunState.RUNNING
        run.stop(reason)
        if first:
            self._timeouts.stopping(run)

    # It ends

    async def finish(self, *, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: Lines) -> Receipt:
        """See `Runs.finish`."""
        run = self._current(attempt)
        if run is not None:
            if (resend_from := run.hear(None, lines)) is not None:
                return Receipt(counts=True, following=None, resend_from=resend_from)
            run.leftovers |= outcome.leftovers
            error, repeatable = outcome.error, run.state is RunState.RUNNING
            repeatable &= charged_attempts(run.run) < MAX_ATTEMPTS - 1
            if repeatable and error is not None and error.code == StoreUnavailableError.code:
                run.leftovers = True
                self._calls.let_go(call_id, run)
                await self._postpone(run, error)
            else:
                self._deliver(run, outcome)
        elif outcome.leftovers:
            await self.report_leftovers(run_id=attempt.run_id)
        if (live := self._live.get(attempt.run_id)) in self._endings:
            await asyncio.shield(self._endings[live])
        following = self._calls.next(call_id, attempt) if await self._is_confirmed() else None
        return Receipt(
            counts=await self._counts(attempt.run_id, outcome), following=None if following is None else following.run
        )

    async def report_leftovers(self, *, run_id: str) -> None:
        """See `Runs.report_leftovers`."""
        if (live := self._live.get(run_id)) is not None:
            live.leftovers = True
            return
        try:
            stored = await self._lookup.stored(run_id, in_pages=True)
            if stored.run.status.ended:
                await self._log.stored(self._log.append(Leftovers(run=stored.run)))
        except NotFoundError:
            return
        except FencedError as error:
            raise ServerUnavailableError(TAKEN_OVER) from error

    def _deliver(self, run: LiveRun, outcome: Outcome) -> None:
        """A run ends as its replica reports."""
        status, error = outcome.status, outcome.error
        if status is RunStatus.CANCELLED and run.stop_reason is not None:
            status, error = status_after(run.stop_reason), run.stop_reason
        self._end(
            run,
            status,
            attempt=_ATTEMPT_ENDS[status],
            error=error,
            output_dataset_ids=list(outcome.output_dataset_ids),
            returned=list(outcome.returned),
        )

    def _fail(self, run: LiveRun, failure: RunFailure) -> None:
        """A run ends that cannot go on."""
        self._end(run, RunStatus.FAILED, error=failure)

    def _end(self, run: LiveRun, status: RunStatus, **fields: Any) -> None:
        """A run has an outcome."""
        self._queues.remove(run)
        ended = run.end(status, **fields)
        self._calls.balance(run.queue)
        self._timeouts.attempt_ended(run)
        self._recorder.forget(run)
        self._endings[run] = self._tasks.start(self._record(run, ended))

    async def _record(self, run: LiveRun, ended: Run) -> None:
        """Put an outcome on record, and only then announce it."""
        try:
            await self._recorder.save_end(run, ended)
        except (FencedError, NotOwnedError):
            return  # another cluster has it
        finally:
            del self._endings[run]
            self._cancels.pop(run, None)
        if run.state is not RunState.ENDING:
            return  # disowned in this moment: the next cluster tells of it
        run.record(ended)
        del self._live[ended.id]
        logger.info("run %s has ended: %s", ended.id, ended.status, extra=run_fields(ended))
        self._admission.has_ended(ended)
        self._ended(ended)
        self._tasks.start(self._recorder.remove_logs(run))

    async def _counts(self, run_id: str, outcome: Outcome) -> bool:
        """Whether the outputs of an attempt are those of its run."""
        if not outcome.output_dataset_ids:
            return True
        try:
            run = (await self._lookup.stored(run_id, in_pages=True)).run
        except NotFoundError:
            return False
        return set(outcome.output_dataset_ids) <= set(run.output_dataset_ids)

    def counts(self) -> Counter[tuple[str, RunStatus]]:
        """How many live runs of each algorithm are in each status."""
        return Counter((run.run.algorithm, run.run.status) for run in self._live.values())
