"""Puts ended runs into pages, writes snapshots, and removes the segments that these make superfluous."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from t3d_server.clock import Clock
from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import first_id
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import Paged
from t3d_server.run_store.pages import write_page
from t3d_server.run_store.records import FencedError, StaleError, StoredRun
from t3d_server.run_store.segments import seq_of
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import RUN_EVENTS, RUN_PAGES, RUN_SNAPSHOTS, page_key, snapshot_key

logger = logging.getLogger(__name__)


class Compactor:
    """Keeps the log short. Each step may be repeated: a crash in between leaves at most an unknown page.

    Args:
        log: the log.
        store: where it is.
        clock: the clock.
        timings: when what is due.
    """

    def __init__(self, log: EventLog, store: ObjectStore, *, clock: Clock, timings: Timings) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._timings = timings
        self._snapshotting = asyncio.Lock()

    async def watch(self) -> None:
        """Do what is due now and then, for ever."""
        while True:
            await asyncio.sleep(self._timings.watch_s)
            try:
                await self.step()
            except (StoreUnavailableError, FencedError) as error:
                logger.warning("the log of runs cannot be compacted: %s", error or type(error).__name__)
            except Exception:  # the next time may do better
                logger.exception("the log of runs cannot be compacted")

    async def step(self) -> None:
        """Do what is due.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        while runs := self._full_page():
            page = await self._log.in_thread(write_page, self._store, runs)
            moved = [stored.run.id for stored in runs]
            keys_until = self._clock.now() - timedelta(seconds=self._timings.keys_s)
            try:
                await self._log.append(Paged(page=page, moved=moved, keys_until=keys_until)).done
            except StaleError:  # another cluster has put some of them into a page
                await self._log.in_thread(self._store.delete, page_key(page.name))
                break
        state, log = self._log.state, self._log
        many = state.seq - log.snapshot_seq >= self._timings.snapshot_segments
        if state.recent or many or log.unsnapped_bytes >= self._timings.snapshot_bytes:
            await self.snapshot()

    async def snapshot(self) -> None:
        """Write a snapshot, and remove what came before it.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        async with self._snapshotting:  # else an earlier one could count as the latest
            await self._snapshot()

    async def _snapshot(self) -> None:
        state = self._log.state.copy()
        unsnapped_bytes = self._log.unsnapped_bytes
        await self._log.in_thread(self._write, state)
        self._log.snapshot_seq = state.seq
        self._log.unsnapped_bytes -= unsnapped_bytes
        for run_id in state.recent:  # readers find them by the snapshot from now on
            self._log.state.recent.pop(run_id, None)
        await self._log.in_thread(self._remove_before, state)

    async def remove_unknown_pages(self) -> None:
        """Remove pages that no event names: a process ended before it could write that, or remove them.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        latest = first_id(self._clock.now() - timedelta(seconds=self._timings.listing_s))
        names = await self._log.in_thread(self._page_names)
        unknown = [name for name in names if name < latest and name not in self._log.state.pages]
        if unknown:
            await self._log.catch_up()  # another cluster may know them
            unknown = [name for name in unknown if name not in self._log.state.pages]
            await self._log.in_thread(self._store.delete, *map(page_key, unknown))

    def _page_names(self) -> list[str]:
        keys = [stat.key for stat in self._store.list(RUN_PAGES)]
        return [key.removeprefix(RUN_PAGES).removesuffix(".jsonl") for key in keys]

    def _full_page(self) -> list[StoredRun]:
        """The oldest of the runs that ended some time ago, if they fill a page."""
        ended = self._log.state.ended
        if len(ended) < self._timings.page_runs:
            return []
        latest = self._clock.now() - timedelta(seconds=self._timings.page_after_s)
        settled = sorted(
            run_id for run_id, stored in ended.items() if stored.run.ended_at is None or stored.run.ended_at < latest
        )
        if len(settled) < self._timings.page_runs:
            return []
        return [ended[run_id] for run_id in settled[: self._timings.page_runs]]

    def _write(self, state: State) -> None:
        self._store.put(snapshot_key(state.seq), state.dump())

    def _remove_before(self, state: State) -> None:
        fenced = {seq for fence in state.fences for seq in range(fence.first, fence.last + 1)}
        bound = min(state.removable_to(), state.seq)
        segments = [stat.key for stat in self._store.list(RUN_EVENTS)]
        doomed = [key for key in segments if seq_of(key) <= bound and seq_of(key) not in fenced]
        doomed += [stat.key for stat in self._store.list(RUN_SNAPSHOTS) if seq_of(stat.key) < state.seq]
        self._store.delete(*doomed)
