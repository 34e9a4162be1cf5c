"""The runs that are live, or have ended lately, as those see them who ask and who follow."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from t3d_server.errors import RunNotFoundError
from t3d_server.models import LogLine, Run, RunNews, utc_now
from t3d_server.runs.entry import Entry

ENDED_RUNS_IN_MEMORY = 1000
QUEUE_LOOK_S = 2.0


class Ledger:
    """The runs that are known without a look into the store.

    Args:
        position: how many runs wait before one; None if it does not wait.

    Attributes:
        live: those that have not ended, or are not in the index of ended ones yet, by id.
    """

    def __init__(self, position: Callable[[Entry], int | None]) -> None:
        self.live: dict[str, Entry] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._position = position

    def find(self, run_id: str) -> Entry | None:
        """A run that is live or has ended lately."""
        return self.live.get(run_id) or self._ended.get(run_id)

    def require(self, run_id: str) -> Entry:
        """As `find`.

        Raises:
            RunNotFoundError: there is none.
        """
        entry = self.find(run_id)
        if entry is None:
            raise RunNotFoundError(f"run {run_id!r} is not live")
        return entry

    def has(self, entry: Entry) -> bool:
        """Whether a run is live, and not left to another cluster."""
        return self.live.get(entry.run.id) is entry

    def settle(self, entry: Entry) -> None:
        """A run is in the index of ended ones: it is live no more, unless it was left to another cluster."""
        if not self.has(entry):
            return
        del self.live[entry.run.id]
        entry.clear_log()
        self._ended[entry.run.id] = entry
        while len(self._ended) > ENDED_RUNS_IN_MEMORY:
            self._ended.popitem(last=False)

    def longest_s(self, algorithm: str) -> float:
        """For how long the longest of an algorithm's runs that go on is at work; 0 where none does."""
        runs = [entry.run for entry in self.live.values() if entry.run.algorithm == algorithm]
        begun = [run.started_at for run in runs if run.started_at is not None and not run.status.ended]
        return (utc_now() - min(begun)).total_seconds() if begun else 0.0

    def view(self, entry: Entry) -> Run:
        """The run as clients see it."""
        return entry.run.model_copy(update={"queue_position": self._position(entry)})

    async def get(self, run_id: str, wait_s: float = 0.0) -> Run:
        """See `Coordinator.get`."""
        entry = self.require(run_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not entry.run.status.ended:
                    await entry.changed.wait()
                    self.require(run_id)  # it may have been left to another cluster
        return self.view(entry)

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """See `Coordinator.news`."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            entry = self.require(run_id)
            changed = entry.changed
            news = RunNews(run=self.view(entry), lines=entry.lines_after(after))
            left_s = deadline - asyncio.get_running_loop().time()
            if news.run != seen or news.lines or news.run.status.ended or left_s <= 0:
                return news
            # Its place in the queue changes by what becomes of others.
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left_s, QUEUE_LOOK_S))

    def log(self, run_id: str) -> list[LogLine]:
        """See `Coordinator.log`."""
        if run_id not in self.live:
            raise RunNotFoundError(f"run {run_id!r} is not live")
        return self.live[run_id].log()

    def live_runs(self) -> list[Run]:
        """See `Coordinator.live_runs`."""
        return [self.view(self.live[run_id]) for run_id in sorted(self.live, reverse=True)]
