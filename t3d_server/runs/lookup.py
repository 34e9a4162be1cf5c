"""Looks runs up: live ones, those that have ended lately, and those of other clusters as they are on record."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from t3d_server.clock import Clock
from t3d_server.errors import ExpiredError, ObjectNotFoundError, RunNotFoundError, ServerUnavailableError
from t3d_server.ids import is_id
from t3d_server.models import LogLine, Run, RunNews, RunStatus
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.former.objects import FormerObjects
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.logs import StoredLog, read_log
from t3d_server.run_store.records import FencedError, StoredRun
from t3d_server.run_store.timings import Timings
from t3d_server.runs.interface import RunList
from t3d_server.runs.live_run import LiveRun, RunState
from t3d_server.runs.queues import Queues

TAKEN_OVER = "another cluster takes over the runs of this one; try again in a moment"


class Lookup:
    """Looks runs up.

    Args:
        live: the runs of this cluster that have not ended, by id.
        queues: what waits.
        log: the log.
        history: the ended runs.
        former: runs of the former layout that are not imported yet.
        clock: the clock.
        timings: how long what takes.
    """

    def __init__(
        self,
        live: Mapping[str, LiveRun],
        queues: Queues,
        log: EventLog,
        history: RunHistory,
        former: FormerObjects,
        clock: Clock,
        timings: Timings,
    ) -> None:
        self._live = live
        self._queues = queues
        self._log = log
        self._history = history
        self._former = former
        self._clock = clock
        self._timings = timings

    def view(self, run: LiveRun) -> Run:
        """A run as clients see it."""
        return run.run.model_copy(update={"queue_position": self._queues.position(run)})

    async def get(self, *, run_id: str, wait_s: float = 0.0) -> Run:
        """See `Runs.get`."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        run = self._live.get(run_id)
        if run is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while run.state not in (RunState.ENDED, RunState.DISOWNED):
                        await run.changed.wait()
            if run.state is not RunState.DISOWNED:
                return self.view(run)
        stored = await self.stored(run_id)
        while not stored.run.status.ended and (left_s := deadline_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left_s, self._timings.watch_s))  # another cluster has it
            stored = await self.stored(run_id)
        return stored.run

    async def news(self, *, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """See `Runs.news`."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while True:
            run = self._live.get(run_id)
            changed = asyncio.Event() if run is None else run.changed
            if run is not None:
                news = RunNews(run=self.view(run), lines=run.lines_after(after))
            else:
                stored = await self.stored(run_id)
                lines: list[LogLine] = []
                with suppress(ExpiredError):  # logs may be kept for less time than runs
                    lines = [line for line in await self._lines(stored) if after is None or line.time > after]
                news = RunNews(run=stored.run, lines=lines)
            left_s = deadline_s - asyncio.get_running_loop().time()
            if news.run != seen or news.lines or news.run.status.ended or left_s <= 0:
                return news
            # Its place in the queue changes by what becomes of others; runs of other clusters are looked at again.
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, self._timings.position_s)):
                    await changed.wait()

    async def log(self, *, run_id: str) -> list[LogLine]:
        """See `Runs.log`."""
        if (run := self._live.get(run_id)) is not None:
            return run.log
        return await self._lines(await self.stored(run_id))

    async def newest(
        self, *, limit: int, before: str | None = None, algorithm: str | None = None, status: RunStatus | None = None
    ) -> RunList:
        """See `Runs.list`."""
        if not self._log.is_member or len(self._log.state.members) > 1:
            await self._catch_up()
        state, found = self._log.state, list[Run | LiveRun]()
        known = {**state.open, **state.ended, **state.recent}
        ids = sorted(known)  # all but in order already
        for run_id in reversed(ids[: None if before is None else bisect_left(ids, before)]):
            live = self._live.get(run_id)
            run = known[run_id].run if live is None else live.run
            fits = status in (None, run.status) and algorithm in (None, run.algorithm)
            if fits and (not run.status.ended or self._history.retention.expired(run_id) is None):
                found.append(run if live is None else live)
                if len(found) > limit:
                    break
        runs = [self.view(run) if isinstance(run, LiveRun) else run for run in found[:limit]]
        return RunList(runs=runs, more=len(found) > limit, snapshot_seq=self._log.snapshot_seq)

    def longest_s(self, algorithm: str) -> float:
        """For how long the longest of an algorithm's runs that go on is at work; 0 where none does."""
        runs = [run.run for run in self._live.values() if run.run.algorithm == algorithm and run.goes_on]
        begun = [run.started_at for run in runs if run.started_at is not None]
        return (self._clock.now() - min(begun)).total_seconds() if begun else 0.0

    async def holder(self, key: str) -> StoredRun | None:
        """The run that was accepted with an idempotency key, by the hash of that."""
        state = self._log.state
        if (stored := state.holder(key)) is not None:
            return stored
        stored = None
        if state.paged_keys.may_have(key):
            stored = await self._log.in_thread(self._history.pages.holder, list(state.pages.values()), key)
        if stored is None and not self._former.is_empty:
            former = await self._log.in_thread(self._former.holder, key)
            stored = former and (await self.accepted_before(former.run.id) or former)
        return stored

    async def accepted_before(self, run_id: str) -> StoredRun | None:
        """A run by its id, wherever it is; a new id costs nothing."""
        state = self._log.state
        if (stored := state.find(run_id)) is not None:
            return stored
        pages = [page for page in state.pages.values() if page.first <= run_id <= page.last]
        with suppress(ObjectNotFoundError):  # the page has just expired
            return await self._log.in_thread(self._history.pages.find, pages, run_id) if pages else None
        return None

    async def stored(self, run_id: str, *, in_pages: bool = False) -> StoredRun:
        """A run as it is on record.

        Args:
            run_id: its id.
            in_pages: whether it may be one that is not kept in memory any more, or has expired, and is still there.

        Raises:
            RunNotFoundError, ExpiredError: there is none.
            ServerUnavailableError, StoreUnavailableError: that cannot be known now.
        """
        await self._catch_up_on(run_id)
        stored = await self.accepted_before(run_id) if in_pages else self._log.state.find(run_id)
        if stored is None and not self._former.is_empty:
            stored = await self.accepted_before(run_id) or await self._log.in_thread(self._former.find, run_id)
        if stored is None:
            raise RunNotFoundError(f"run {run_id!r} neither is open nor has ended lately")
        if (
            stored.run.status.ended
            and not in_pages
            and (expired := self._history.retention.expired(run_id)) is not None
        ):
            raise expired
        return stored

    async def stored_log(self, stored: StoredRun) -> StoredLog:
        """The log of a run that goes on, as it is on record."""
        if not stored.log:
            return StoredLog(lines=stored.lines)
        return await self._log.in_thread(read_log, self._history.store, stored.log)

    async def _catch_up_on(self, run_id: str) -> None:
        """Read what other clusters have just written, if that may be about a run: it is new, or one of theirs."""
        state = self._log.state
        known = state.find(run_id)
        is_new = known is None or (not known.run.status.ended and known.owner != self._log.cluster)
        is_old = any(page.first <= run_id <= page.last for page in state.pages.values())
        if is_new and is_id(run_id) and (len(state.members) > 1 or not is_old):
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Read what other clusters have just written.

        Raises:
            ServerUnavailableError: another one has this cluster's runs, until it has joined anew.
            StoreUnavailableError: the store does not answer.
        """
        try:
            await self._log.catch_up()
        except FencedError as error:
            raise ServerUnavailableError(TAKEN_OVER) from error

    async def _lines(self, stored: StoredRun) -> list[LogLine]:
        if stored.run.status.ended:
            return await self._log.in_thread(self._history.log, stored)
        return (await self.stored_log(stored)).lines
