"""The coordinator's logic: queues runs, grants attempts, keeps their live state; knows no Ray.

Everything runs on one event loop; only the store is called in threads. A run's record is written before the client
hears of it, and its outcome before anyone is told that it has ended.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from t3d_server.errors import NotFoundError, RunNotFoundError, StoreUnavailableError, VersionNotFoundError
from t3d_server.models import (
    AlgorithmVersion,
    Device,
    LogLevel,
    LogLine,
    Manifest,
    Run,
    RunFailure,
    RunRequest,
    RunStatus,
    utc_now,
)
from t3d_server.runs.acceptance import accept
from t3d_server.runs.context import storable
from t3d_server.runs.executor import Outcome
from t3d_server.runs.lanes import Dispatcher, Lane, Lanes
from t3d_server.runs.records import RunRecords

MAX_ATTEMPTS = 3
ENDED_RUNS_IN_MEMORY = 1000
LOG_LINES_PER_RUN = 10_000
STORE_RETRY_S = 1.0


class Catalog(Protocol):
    """Finds published versions, without input or output."""

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        """The version, or the current one."""


@dataclass(eq=False)
class _Entry:
    """Live state of a run."""

    run: Run
    manifest: Manifest
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES_PER_RUN))
    lines_dropped: int = 0
    cancelling: bool = False
    ending: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lane(self) -> Lane:
        return Lane(self.run.algorithm, self.run.version, self.run.resolved_device)

    def note(self, level: LogLevel, message: str) -> None:
        self.add_line(LogLine(time=utc_now(), level=level, message=storable(message)))

    def add_line(self, line: LogLine) -> None:
        self.lines_dropped += len(self.lines) == LOG_LINES_PER_RUN
        self.lines.append(line)

    def log(self) -> list[LogLine]:
        """The lines that are kept, the latest ones, after one that tells how many are not."""
        if not self.lines_dropped:
            return list(self.lines)
        message = f"{self.lines_dropped} earlier lines are left out: a run keeps {LOG_LINES_PER_RUN}"
        return [LogLine(time=self.lines[0].time, level="WARNING", message=message), *self.lines]

    def update(self, **fields: Any) -> None:
        self.replace(self.run.model_copy(update=fields))

    def replace(self, run: Run) -> None:
        self.run = run
        self.changed.set()
        self.changed = asyncio.Event()


class Coordinator:
    """Owns the live state of all runs.

    Args:
        records: the durable records.
        catalog: finds published versions.
        dispatcher: calls replicas.
        devices: tells which devices the cluster has.
        slots: how many calls of a manifest's replicas may be open at a time, on a device.
    """

    def __init__(
        self,
        records: RunRecords,
        catalog: Catalog,
        dispatcher: Dispatcher,
        devices: Callable[[], Collection[Device]],
        slots: Callable[[Manifest, Device], int],
    ) -> None:
        self._records = records
        self._catalog = catalog
        self._devices = devices
        self._slots = slots
        self._live: dict[str, _Entry] = {}
        self._ended: OrderedDict[str, _Entry] = OrderedDict()
        self._lanes = Lanes[_Entry](dispatcher, self)
        self._closed: set[tuple[str, str]] = set()
        self._arriving: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def recover(self) -> None:
        """Take up the runs that had not ended when the coordinator last stopped; each begins anew."""
        for run in await asyncio.to_thread(lambda: list(self._records.open_runs())):
            if run.id in self._live:
                continue  # this was tried before, and the store went down in the midst of it
            if await asyncio.to_thread(self._records.has_ended, run.id):
                await asyncio.to_thread(self._records.file, await asyncio.to_thread(self._records.find, run.id))
                continue
            entry = self._live[run.id] = _Entry(run, Manifest(name=run.algorithm, version=run.version))
            try:
                entry.manifest = self._catalog.find(run.algorithm, run.version).manifest
            except NotFoundError as error:
                await self._fail(entry, RunFailure(code=error.code, type=type(error).__name__, message=error.message))
                continue
            entry.note("WARNING", "the server was started again")
            self._enqueue(entry)

    async def submit(self, algorithm: str, request: RunRequest, run_id: str) -> Run:
        """Accept a run; from the moment this returns it will reach an end.

        Args:
            algorithm: what to run.
            request: how.
            run_id: a new id; submitting again under the same one gives the same run.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError: there is no such algorithm or version.
            InvalidRequestError, InvalidArgsError, DeviceNotSupportedError: see `accept`.
            StoreUnavailableError: the run could not be recorded and was not accepted.
        """
        if run_id in self._live or run_id in self._ended:
            return self._view(self._entry(run_id))
        manifest = self._catalog.find(algorithm, request.version).manifest
        key = (manifest.name, manifest.version)
        if key in self._closed:
            raise VersionNotFoundError(f"{manifest.name} {manifest.version} is being removed")
        run, warnings = accept(manifest, request, self._devices(), run_id)
        entry = _Entry(run, manifest)
        for warning in warnings:
            entry.note("WARNING", warning)
        arriving = self._spawn(self._accept(entry))
        self._arriving[arriving] = key
        arriving.add_done_callback(self._arriving.pop)
        await asyncio.shield(arriving)
        return self._view(entry)

    async def _accept(self, entry: _Entry) -> None:
        await asyncio.to_thread(self._records.accept, entry.run)
        self._live[entry.run.id] = entry
        self._enqueue(entry)

    def begin(self, call_id: str) -> Run | None:
        """A replica that was called asks for a run.

        Returns:
            The run, with the number of this attempt in `attempts`; None if there is nothing to do any more.
        """
        return _run_of(self._lanes.begin(call_id))

    def report(self, run_id: str, attempt: int, progress: float | None, lines: Iterable[LogLine]) -> bool:
        """A replica tells how far an attempt is.

        Returns:
            Whether it is to go on.
        """
        entry = self._current(run_id, attempt)
        if entry is None:
            return False
        self._hear(entry, progress, lines)
        return not entry.cancelling

    async def finish(
        self, call_id: str, run_id: str, attempt: int, outcome: Outcome, lines: Iterable[LogLine]
    ) -> Run | None:
        """A replica delivers the outcome of an attempt with the last lines of its log, and asks for the next run.

        Returns once the outcome is stored. Delivering it again is harmless.

        Returns:
            As `begin`.
        """
        entry = self._current(run_id, attempt)
        if entry is not None:
            self._hear(entry, None, lines)
            await self._end(
                entry, outcome.status, output_dataset_ids=list(outcome.output_dataset_ids), error=outcome.error
            )
        return _run_of(self._lanes.next(call_id, self._live.get(run_id) or self._ended.get(run_id)))

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run: a queued one at once, a running one at its next call back; an ended one stays as it is.

        Raises:
            RunNotFoundError: there is no live run with this id.
        """
        entry = self._entry(run_id)
        if entry.run.status is RunStatus.PENDING:
            failure = RunFailure(code="cancelled", type="RunCancelled", message="the run was cancelled in the queue")
            entry.cancelling = True
            # Not for ever: while the store is down, the run stays in the queue's way and ends as soon as it can.
            await asyncio.wait([asyncio.ensure_future(self._end(entry, RunStatus.CANCELLED, error=failure))], timeout=5)
        elif entry.run.status is RunStatus.RUNNING:
            entry.cancelling = True
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
        return self._view(entry)

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
        positions = self._lanes.positions()
        entries = sorted(self._live.values(), key=lambda entry: entry.run.id, reverse=True)
        return [entry.run.model_copy(update={"queue_position": positions.get(entry)}) for entry in entries]

    async def load_failed(self, lane: Lane, failure: RunFailure) -> None:
        """A replica could not load: what waits for the lane fails, unless another replica works."""
        if not self._lanes.is_worked_on(lane):
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
        self._closed.add((algorithm, version))
        if arriving := [task for task, key in self._arriving.items() if key == (algorithm, version)]:
            await asyncio.wait(arriving)
        for entry in list(self._live.values()):
            if (entry.run.algorithm, entry.run.version) != (algorithm, version):
                continue
            if cancel:
                await self.cancel(entry.run.id)
            while not entry.run.status.ended:
                await entry.changed.wait()

    def reopen(self, algorithm: str, version: str) -> None:
        """Take runs of a version again that was drained."""
        self._closed.discard((algorithm, version))

    def _entry(self, run_id: str) -> _Entry:
        entry = self._live.get(run_id) or self._ended.get(run_id)
        if entry is None:
            raise RunNotFoundError(f"run {run_id!r} is not live")
        return entry

    def _current(self, run_id: str, attempt: int) -> _Entry | None:
        """The run, if this is its present attempt and it has not ended."""
        entry = self._live.get(run_id)
        return entry if entry is not None and entry.run.attempts == attempt and entry.ending is None else None

    def _view(self, entry: _Entry) -> Run:
        """The run as clients see it."""
        return entry.run.model_copy(update={"queue_position": self._lanes.positions().get(entry)})

    @staticmethod
    def _hear(entry: _Entry, progress: float | None, lines: Iterable[LogLine]) -> None:
        news: dict[str, Any] = {} if progress is None else {"progress": progress}
        for line in lines:
            entry.add_line(line)
            news["message"] = line.message
        if news:
            entry.update(**news)

    def _enqueue(self, entry: _Entry) -> None:
        self._lanes.add(entry.lane, entry, slots=self._slots(entry.manifest, entry.run.resolved_device))

    def begun(self, item: _Entry) -> None:
        """A replica has taken a run; see `Owner`."""
        item.update(status=RunStatus.RUNNING, started_at=utc_now(), attempts=item.run.attempts + 1)

    async def lost(self, item: _Entry, reason: str) -> None:
        """Queue a run whose attempt was lost, or end it if that was the last one; see `Owner`."""
        if item.ending is not None:
            return
        item.note("WARNING", f"attempt {item.run.attempts} was lost: {reason}")
        if item.cancelling:
            failure = RunFailure(code="cancelled", type="RunCancelled", message="the run was cancelled")
            await self._end(item, RunStatus.CANCELLED, error=failure)
        elif item.run.attempts >= MAX_ATTEMPTS:
            message = storable(f"all {MAX_ATTEMPTS} attempts were lost, the last one so: {reason}")
            await self._fail(item, RunFailure(code="attempts_exhausted", type="AttemptsExhausted", message=message))
        else:
            item.update(status=RunStatus.PENDING, progress=0.0, started_at=None)
            self._enqueue(item)

    async def _fail(self, entry: _Entry, failure: RunFailure) -> None:
        await self._end(entry, RunStatus.FAILED, error=failure)

    async def _end(self, entry: _Entry, status: RunStatus, **fields: Any) -> None:
        """End a run: store its outcome, then tell. Whoever comes second waits for the first."""
        if entry.ending is None:
            entry.ending = self._spawn(self._store_end(entry, {"status": status, **fields}))
        await asyncio.shield(entry.ending)

    async def _store_end(self, entry: _Entry, fields: dict[str, Any]) -> None:
        run = entry.run.model_copy(update={**fields, "progress": 1.0, "ended_at": utc_now()})
        self._lanes.remove(entry.lane, entry)
        await _until_stored(lambda: asyncio.to_thread(self._records.end, run, entry.log()))
        entry.replace(run)
        self._spawn(self._file(entry))

    async def _file(self, entry: _Entry) -> None:
        """What may follow after an end was told: until it is in the index, the run is listed as a live one."""
        run = entry.run
        await _until_stored(lambda: asyncio.to_thread(self._records.file, run))
        del self._live[run.id]
        entry.lines.clear()
        self._ended[run.id] = entry
        while len(self._ended) > ENDED_RUNS_IN_MEMORY:
            self._ended.popitem(last=False)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _run_of(entry: _Entry | None) -> Run | None:
    return None if entry is None else entry.run


async def _until_stored(write: Callable[[], Awaitable[None]]) -> None:
    """An outcome must not be lost: while the store is down, try again."""
    while True:
        try:
            return await write()
        except StoreUnavailableError:
            await asyncio.sleep(STORE_RETRY_S)
