"""Writes what becomes of live runs into the store: their records in order, their ends for good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import tag_for
from t3d_server.models import Run
from t3d_server.runs.attempts import was_broken_off
from t3d_server.runs.entry import Entry
from t3d_server.runs.records import Record, RunRecords
from t3d_server.runs.tasks import Tasks

SAVE_AFTER_S = 0.2
SAVE_LOG_AFTER_S = 3.0
"""A crash of the coordinator takes the lines of a log that are younger."""
STORE_RETRY_S = 1.0
CLOCKS_DIFFER = timedelta(seconds=60)
"""Ids of outputs carry the time of the replica's machine, runs that of the router's or the coordinator's."""

T = TypeVar("T")


class Outputs(Protocol):
    """Where runs have put their outputs."""

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        """Remove the datasets that belong to these tags; see `DatasetStore.remove_tagged`."""


class Journal:
    """The records of live runs.

    A record is not written at once when an attempt begins, but `SAVE_AFTER_S` later: most runs have ended by then, and
    need it never. If a crash of the coordinator hides an attempt in that time, its replica makes it known by its next
    report, or by the outcome; see `Coordinator.report`.

    Args:
        records: the records.
        outputs: what runs have made.
        owner: the cluster that has the runs.
        has: whether a run is live, and not left to another cluster.
    """

    def __init__(
        self, records: RunRecords, outputs: Outputs, owner: Callable[[], str], has: Callable[[Entry], bool]
    ) -> None:
        self._records = records
        self._outputs = outputs
        self._owner = owner
        self._has = has
        self._unswept: dict[str, Run] = {}
        self._sweeping = asyncio.Lock()
        self._tasks = Tasks()

    async def accept(self, entry: Entry) -> None:
        """Store a new run.

        Raises:
            StoreUnavailableError: it may not be stored.
        """
        await asyncio.to_thread(self._records.save, self._record(entry))

    def save_soon(self, entry: Entry) -> None:
        """Store how far a run is, in a moment, unless it ends before that."""
        self._later(entry, "record", SAVE_AFTER_S, self.save)

    def save_log_soon(self, entry: Entry) -> None:
        """Store the log of a run so far, in a few seconds, unless it ends before that."""
        self._later(entry, "log", SAVE_LOG_AFTER_S, self.save_log)

    async def save_log(self, entry: Entry) -> None:
        """Store the log of a run so far, unless it has ended; if the store is away, the next time may do it."""
        async with entry.saving:
            if self._goes_on(entry):
                with suppress(StoreUnavailableError):
                    await asyncio.to_thread(self._records.save_log, entry.run.id, entry.log())

    async def save(self, entry: Entry) -> None:
        """Store how far a run is, unless it has ended, however long the store is away."""

        async def write() -> None:
            if self._goes_on(entry):  # else its next cluster may have written the record
                await asyncio.to_thread(self._records.save, self._record(entry))

        async with entry.saving:
            await _until_stored(write)

    async def end(self, entry: Entry, run: Run) -> Run:
        """Store how a run has ended, however long the store is away.

        Returns:
            The run as it has ended; another cluster may have been first.
        """
        entry.cancel_timers()
        async with entry.saving:
            record = Record.of(run, owner=self._owner(), key=entry.key)
            first = await _until_stored(lambda: asyncio.to_thread(self._records.end, record, entry.log()))
        return first or run

    async def file(self, run: Run, *, taken_up: bool) -> None:
        """What may follow after an end was told: outputs that do not count are removed, and the run goes to the index.

        Until then its open record stays, so that this is done again after a crash.

        Args:
            run: the run.
            taken_up: it may have had attempts that nobody knows of.
        """
        if taken_up or was_broken_off(run):
            self._unswept[run.id] = run
            async with self._sweeping:
                if run.id in self._unswept:  # else another one has done it in the meantime
                    batch, self._unswept = list(self._unswept.values()), {}
                    await _until_stored(lambda: asyncio.to_thread(self._sweep, batch))
        await _until_stored(lambda: asyncio.to_thread(self._records.file, run))

    def _sweep(self, runs: Collection[Run]) -> None:
        """Remove what attempts have left whose replicas died: one listing for all these runs."""
        self._outputs.remove_tagged(
            {tag_for(run.id) for run in runs},
            min(run.created_at for run in runs) - CLOCKS_DIFFER,
            but={dataset_id for run in runs for dataset_id in run.output_dataset_ids},
        )

    def _later(
        self, entry: Entry, what: str, after_s: float, write: Callable[[Entry], Coroutine[Any, Any, None]]
    ) -> None:
        """Have something written later, unless it will be by then."""

        def begin() -> None:
            del entry.timers[what]
            self._tasks.start(write(entry))

        if what not in entry.timers and entry.ending is None:
            entry.timers[what] = asyncio.get_running_loop().call_later(after_s, begin)

    def _goes_on(self, entry: Entry) -> bool:
        return entry.ending is None and self._has(entry)

    def _record(self, entry: Entry) -> Record:
        return Record.of(entry.run, owner=self._owner(), key=entry.key, logged=entry.has_log)


async def _until_stored(write: Callable[[], Awaitable[T]]) -> T:
    """What must not be lost: while the store is down, try again."""
    while True:
        try:
            return await write()
        except StoreUnavailableError:
            await asyncio.sleep(STORE_RETRY_S)
