"""What is on record of the runs of a cluster while they go on, and of their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from t3d_server.errors import StoreUnavailableError
from t3d_server.models import Run
from t3d_server.run_store.event_log import Append, EventLog
from t3d_server.run_store.events import Ended, UpdateCause, Updated
from t3d_server.run_store.logs import SMALL_LOG_BYTES, StoredLog, size_bytes, write_log
from t3d_server.run_store.records import FencedError, NotOwnedError
from t3d_server.run_store.timings import Timings
from t3d_server.runs.live_run import LiveRun, RunState
from t3d_server.runs.tasks import Tasks
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import run_log_key

PARALLEL_SAVES = 4
"""Most logs that are stored at a time: the log of runs itself is not to wait for a thread."""


class Recorder:
    """Writes events and logs of live runs.

    An attempt is not on record at once, but some moments later: most runs have ended by then, and need it never. If a
    crash of the coordinator hides an attempt in that time, its replica makes it known by its next report.

    Args:
        log: the log.
        store: where logs of runs are kept.
        timings: how long what takes.
    """

    def __init__(self, log: EventLog, store: ObjectStore, timings: Timings) -> None:
        self._log = log
        self._store = store
        self._timings = timings
        self._delayed: dict[LiveRun, dict[str, asyncio.TimerHandle]] = {}
        self._saving: dict[LiveRun, bool] = {}
        self._saves = asyncio.Semaphore(PARALLEL_SAVES)
        self._tasks = Tasks()

    def save(self, run: LiveRun, cause: UpdateCause, log: str = "") -> Append:
        """Record how far a run is; `log` is the object that has its log so far."""
        if (timer := self._delayed.get(run, {}).pop("started", None)) is not None:
            timer.cancel()
        return self._log.append(Updated(cause=cause, run=run.run, log=log))

    def save_started_soon(self, run: LiveRun) -> None:
        """Record an attempt, unless it has ended by then."""
        self._later(run, "started", self._timings.started_after_s, lambda: self.save(run, "started"))

    def save_log_soon(self, run: LiveRun) -> None:
        """Store the log so far, unless the run has ended by then."""
        self._later(run, "log", self._timings.log_after_s, lambda: self._tasks.start(self.save_log(run)))

    async def save_log(self, run: LiveRun) -> None:
        """Store the log so far; if the store is away, the next time may do it."""
        is_saved = run in self._saving
        self._saving[run] = True  # also again, where it is being saved
        try:
            while not is_saved and self._saving[run]:
                self._saving[run] = False
                async with self._saves:
                    await self._save_log(run)
        finally:
            if not is_saved:
                del self._saving[run]

    async def _save_log(self, run: LiveRun) -> None:
        if not run.goes_on or not run.log:
            return
        name = f"{run.run.id}~{self._log.process}"
        log = StoredLog(attempt=run.run.attempts, heard=run.heard, lines=run.log)
        with suppress(StoreUnavailableError, FencedError, NotOwnedError):
            await self._log.in_thread(write_log, self._store, name, log)
            if name not in run.stored_logs:
                run.stored_logs.append(name)
                if run.goes_on:
                    await self.save(run, "logged", name).done
            if run.state is RunState.ENDED:  # meanwhile: its log is with its outcome
                await self.remove_logs(run)

    async def save_end(self, run: LiveRun, ended: Run) -> None:
        """Record an outcome, however long the store is away.

        Raises:
            FencedError, NotOwnedError: another process has taken over.
        """
        lines, name = run.ended_log, ""
        if size_bytes(lines) > SMALL_LOG_BYTES:
            name = f"{ended.id}~{self._log.process}-end"
            await self._until_stored(run, name, StoredLog(lines=lines))
        event = Ended(run=ended, lines=[] if name else lines, log=name, leftovers=run.leftovers)
        await self._log.append(event).done

    async def remove_logs(self, run: LiveRun) -> None:
        """Remove what was stored of the log of a run while it went on: the log is with its outcome."""
        if run.stored_logs:
            with suppress(StoreUnavailableError):  # they go with the run
                await self._log.in_thread(self._store.delete, *map(run_log_key, run.stored_logs))

    def forget(self, run: LiveRun) -> None:
        """Do nothing later about a run."""
        for timer in self._delayed.pop(run, {}).values():
            timer.cancel()

    async def _until_stored(self, run: LiveRun, name: str, log: StoredLog) -> None:
        """Store a log, however long the store is away.

        Raises:
            NotOwnedError: another cluster has taken over.
        """
        while run.state is RunState.ENDING:
            try:
                return await self._log.in_thread(write_log, self._store, name, log)
            except StoreUnavailableError:
                await asyncio.sleep(self._timings.store_retry_s)
        raise NotOwnedError

    def _later(self, run: LiveRun, what: str, after_s: float, act: Callable[[], object]) -> None:
        """Do something later, unless it will be by then, or the run has ended."""
        delayed = self._delayed.setdefault(run, {})

        def begin() -> None:
            del delayed[what]
            act()

        if what not in delayed and run.goes_on:
            delayed[what] = asyncio.get_running_loop().call_later(after_s, begin)
