"""Ends runs: stores how each has ended, and only then tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal

from t3d_server.models import Run, RunFailure, RunStatus, utc_now
from t3d_server.runs.attempts import closed
from t3d_server.runs.entry import Entry
from t3d_server.runs.executor import Outcome
from t3d_server.runs.journal import Journal
from t3d_server.runs.ledger import Ledger
from t3d_server.runs.log import end_line, run_fields
from t3d_server.runs.supervision import status_after
from t3d_server.runs.tasks import Tasks

logger = logging.getLogger(__name__)

Way = Literal["completed", "failed", "cancelled", "lost", "killed"]
_WAYS: dict[RunStatus, Way] = {
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


class Endings:
    """Ends runs, each once.

    Args:
        journal: writes what becomes of runs.
        ledger: the live runs.
        leave: takes a run out of its queue, where it is in one.
        told: hears of a run that has ended.
    """

    def __init__(
        self, journal: Journal, ledger: Ledger, leave: Callable[[Entry], None], told: Callable[[Run], None]
    ) -> None:
        self._journal = journal
        self._ledger = ledger
        self._leave = leave
        self._told = told
        self._tasks = Tasks()

    async def deliver(self, entry: Entry, outcome: Outcome) -> None:
        """End a run as its replica says."""
        status, error = outcome.status, outcome.error
        if status is RunStatus.CANCELLED and entry.stop is not None:
            status, error = status_after(entry.stop), entry.stop
        await self.end(
            entry,
            status,
            attempt=_WAYS[status],
            error=error,
            output_dataset_ids=list(outcome.output_dataset_ids),
            returned=list(outcome.returned),
        )

    def fail(self, entry: Entry, failure: RunFailure) -> asyncio.Future[None]:
        """End a run that cannot go on; see `end`."""
        return self.end(entry, RunStatus.FAILED, error=failure)

    def end(
        self, entry: Entry, status: RunStatus, *, attempt: Way = "lost", error: RunFailure | None, **fields: Any
    ) -> asyncio.Future[None]:
        """End a run from now on: its outcome is stored, and then told. The first one to end it counts.

        Args:
            entry: the run.
            status: how it ends.
            attempt: how its attempt ended, if one goes on.
            error: why it has no result.
            fields: more of the run.

        Returns:
            Done once the end was told; cancelling it changes nothing.
        """
        if entry.ending is None:
            self._leave(entry)
            if error is not None:
                entry.tell(end_line(error))
            now = utc_now()
            fields |= {"status": status, "error": error, "progress": 1.0, "ended_at": now}
            run = closed(entry.run, attempt, now).model_copy(update=fields)
            entry.ending = self._tasks.start(self._store(entry, run))
        return asyncio.shield(entry.ending)

    def file(self, run: Run) -> None:
        """Put the end of a run on file that was found in the store and is not live."""
        self._tasks.start(self._journal.file(run, taken_up=True))

    async def _store(self, entry: Entry, run: Run) -> None:
        entry.replace(await self._journal.end(entry, run))
        logger.info("run %s has ended: %s", run.id, entry.run.status, extra=run_fields(entry.run))
        self._told(entry.run)
        self._tasks.start(self._file(entry))

    async def _file(self, entry: Entry) -> None:
        """What may follow after an end was told: until it is in the index, the run is listed as a live one."""
        await self._journal.file(entry.run, taken_up=entry.taken_up)
        self._ledger.settle(entry)
