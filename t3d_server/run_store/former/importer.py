"""Takes runs over from objects of the former layout, in which each run had some of its own.

Runs that have not ended become this cluster's once no server of the former version goes on with them. Ended ones become
pages, newest first, a page at a time; too few for a page become ended runs of the state. Nothing of a bucket is removed
while a server of the former version is alive: its clients find all of it. Then, after a snapshot, everything is.

Each step may be repeated, and several clusters may be at it. An event has the number of those before it and is late,
and so changes nothing, where another cluster has imported something since it was looked what is known already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from pydantic import ValidationError

from t3d_server.clock import Clock
from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import first_id, time_of
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import Imported, Paged
from t3d_server.run_store.former.batches import for_each, known_among
from t3d_server.run_store.former.objects import FormerObjects
from t3d_server.run_store.former.removal import FormerRemoval
from t3d_server.run_store.former.servers import FormerServers, FormerState
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.logs import SMALL_LOG_BYTES, StoredLog, size_bytes, write_log
from t3d_server.run_store.pages import write_page
from t3d_server.run_store.records import FencedError, StaleError, StoredRun
from t3d_server.run_store.timings import Timings
from t3d_server.storage.keys import page_key

logger = logging.getLogger(__name__)

PAGES_A_SNAPSHOT = 16
CLOCKS_DIFFER = timedelta(seconds=600)
"""Ids carry the time of the router's machine, and may be older than their records."""


@dataclass
class _Pass:
    """A walk through the ended runs, newest first.

    Attributes:
        is_final: no server of the former version was alive when it began: it finds all there will be.
        oldest: runs with smaller ids were imported by an earlier pass.
        next_oldest: runs with smaller ids are imported once this pass has ended.
        reached: the latest id that was looked at.
    """

    is_final: bool
    oldest: str
    next_oldest: str
    reached: str = ""


class FormerLayout:
    """Imports what is there of the former layout.

    Args:
        log: the log.
        objects: the objects of the former layout.
        history: the ended runs, in the same store.
        compactor: writes snapshots.
        clock: the clock.
        timings: how long what takes.
        adopt: goes on with the runs of this cluster that it does not work on yet.
    """

    def __init__(
        self,
        log: EventLog,
        objects: FormerObjects,
        history: RunHistory,
        compactor: Compactor,
        *,
        clock: Clock,
        timings: Timings,
        adopt: Callable[[], Awaitable[None]],
    ) -> None:
        self._log = log
        self._objects = objects
        self._history = history
        self._store = history.store
        self._compactor = compactor
        self._clock = clock
        self._timings = timings
        self._adopt = adopt
        self._servers = FormerServers(log, history.store, clock=clock, timings=timings)
        self._removal = FormerRemoval(log, objects, self._servers, history)
        self._found = self._adopts = False
        self._pass: _Pass | None = None
        self._imported_from = ""
        self._unreadable: set[str] = set()
        self._pages_unsnapped = 0

    async def watch(self) -> None:
        """Import until nothing is left; ended runs of servers that are alive are imported when they appear."""
        while not self._objects.is_empty:
            if not await self.step():
                await asyncio.sleep(self._timings.heartbeat_s)

    async def step(self) -> bool:
        """Go on with the import by at most a page; whether there is more to do at once. Faults are logged: what failed
        is to be repeated.
        """
        try:
            return await self._step()
        except (StoreUnavailableError, FencedError, StaleError) as error:
            logger.warning("runs of the former layout cannot be imported yet: %s", error or type(error).__name__)
        except Exception:  # the next step may do better
            logger.exception("runs of the former layout cannot be imported")
        return False

    async def _step(self) -> bool:
        if self._objects.is_empty:
            return False
        if not self._found:
            self._found = await self._log.in_thread(self._objects.any)
            if not self._found:
                self._objects.is_empty = True
                return False
            logger.info("the bucket has runs of a former version: they are imported")
        servers = await self._servers.look()
        if servers is FormerState.UNKNOWN:
            return False  # nothing is to delay the next look, until it is clear who has the open runs
        open_ids = await self._log.in_thread(self._objects.open_ids)
        if self._servers.has_left_runs or servers is FormerState.GONE:
            await self._import_open(open_ids)
        if self._pass is None:
            next_oldest = min([first_id(self._clock.now() - CLOCKS_DIFFER), *open_ids])
            self._pass = _Pass(servers is FormerState.GONE, self._imported_from, next_oldest)
        if await self._import_page(self._pass):
            return True
        ended, self._pass = self._pass, None
        self._imported_from = ended.next_oldest
        if self._pages_unsnapped:
            await self._snapshot()
        if servers is FormerState.GONE and ended.is_final:
            await self._snapshot()
            if await self._removal.remove(self._unreadable):
                self._objects.is_empty = True
                await self._adopt()
                logger.info("all runs of the former version are imported")
            else:
                self._imported_from = ""
            return False
        return servers is FormerState.GONE

    # Open runs

    async def _import_open(self, open_ids: Collection[str]) -> None:
        """Take over the open runs that no server of the former version goes on with."""
        imports = self._log.state.imports
        known = await known_among(self._log, self._history.pages, open_ids)
        new = [run_id for run_id in open_ids if run_id not in known and run_id not in self._unreadable]
        found = [stored for stored in await for_each(self._log, self._read_open, new) if stored is not None]
        left = await self._servers.left_by({stored.owner for stored in found})
        runs = [stored for stored in found if stored.owner in left]
        # Only now: a server that was alive may have ended them until it was claimed.
        ended = await for_each(self._log, lambda stored: self._objects.has_ended(stored.run.id), runs)
        runs = [stored for stored, has_ended in zip(runs, ended, strict=True) if not has_ended]
        if runs:
            self._adopts = True
            await self._append_runs(await for_each(self._log, self._with_log_moved, runs), imports)
        if self._adopts:  # also those of an earlier look, whose events took long
            await self._adopt()

    def _read_open(self, run_id: str) -> StoredRun | None:
        return self._readable(run_id, lambda: self._objects.open(run_id))

    # Ended runs

    async def _import_page(self, current: _Pass) -> bool:
        """Import the next ended runs of a pass; whether there may be more."""
        imports = self._log.state.imports
        run_ids = await self._log.in_thread(self._next_ended, current)
        if not run_ids:
            return False
        known = await known_among(self._log, self._history.pages, run_ids)
        new = [run_id for run_id in run_ids if run_id not in known and run_id not in self._unreadable]
        found = await for_each(self._log, self._read_ended, new)
        runs = [stored for stored in found if stored is not None]
        try:
            if len(runs) * 2 > self._timings.page_runs:
                await self._append_page(runs, imports)
            else:
                await self._append_runs(runs, imports)
        except StaleError:
            return True  # another cluster imports too: look again what is known
        current.reached = run_ids[-1]
        if self._pages_unsnapped >= PAGES_A_SNAPSHOT:
            await self._snapshot()
        return True

    def _next_ended(self, current: _Pass) -> list[str]:
        run_ids = list[str]()
        for run_id in islice(self._objects.ended_ids(current.reached), self._timings.page_runs):
            if run_id < current.oldest or self._has_expired(run_id):
                break  # as have all that follow
            run_ids.append(run_id)
        return run_ids

    def _read_ended(self, run_id: str) -> StoredRun | None:
        made, history = time_of(run_id), self._history
        key = made > self._clock.now() - timedelta(seconds=self._timings.keys_s)
        logs_before = history.log_retention.removable_before()
        log = logs_before is None or made > logs_before
        stored = self._readable(run_id, lambda: self._objects.ended(run_id, key=key, log=log))
        return None if stored is None else self._with_log_moved(stored)

    def _readable(self, run_id: str, read: Callable[[], StoredRun | None]) -> StoredRun | None:
        """A run that is read; one that cannot be stays where it is."""
        try:
            return read()
        except ValidationError:
            logger.exception("run %s of the former layout cannot be read: it is left out", run_id)
            self._unreadable.add(run_id)
            return None

    def _with_log_moved(self, stored: StoredRun) -> StoredRun:
        """A run whose log stands with it, or in an object of its own where it is long."""
        if size_bytes(stored.lines) <= SMALL_LOG_BYTES:
            return stored
        name = f"{stored.run.id}~former"
        write_log(self._store, name, StoredLog(lines=stored.lines))
        return stored.model_copy(update={"lines": [], "log": name})

    def _has_expired(self, run_id: str) -> bool:
        before = self._history.retention.removable_before()
        return before is not None and time_of(run_id) < before

    # Events

    async def _append_runs(self, runs: Iterable[StoredRun], imports: int) -> None:
        appends = [
            self._log.append(
                Imported(
                    number=imports + number,
                    run=stored.run,
                    key=stored.key,
                    request_sha256=stored.request_sha256,
                    lines=stored.lines,
                    log=stored.log,
                )
            )
            for number, stored in enumerate(sorted(runs, key=lambda stored: stored.run.id))
        ]
        for append in appends:
            await self._log.stored(append)

    async def _append_page(self, runs: list[StoredRun], imports: int) -> None:
        page = await self._log.in_thread(write_page, self._store, [_without_owner(stored) for stored in runs])
        if not any(stored.key for stored in runs):
            page = page.model_copy(update={"keys": ""})
        try:
            await self._log.stored(self._log.append(Paged(page=page, imports=imports)))
        except StaleError:
            await self._log.in_thread(self._store.delete, page_key(page.name))
            raise
        self._pages_unsnapped += 1

    async def _snapshot(self) -> None:
        await self._compactor.snapshot()
        self._pages_unsnapped = 0


def _without_owner(stored: StoredRun) -> StoredRun:
    return stored.model_copy(update={"owner": ""})
