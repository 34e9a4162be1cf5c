"""Removes objects of the former layout whose runs a snapshot has."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from t3d_server.ids import time_of
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import Leftovers
from t3d_server.run_store.former.batches import batches, for_each, known_among
from t3d_server.run_store.former.objects import CLUSTERS, DONE, INDEXES, KEYS, OPEN, FormerObjects, id_in
from t3d_server.run_store.former.servers import FormerServers
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.records import StaleError, StoredRun


class FormerRemoval:
    """Removes what was imported.

    Args:
        log: the log.
        objects: the objects of the former layout.
        servers: knows whether servers of the former version are alive.
        history: the ended runs, in the same store.
    """

    def __init__(self, log: EventLog, objects: FormerObjects, servers: FormerServers, history: RunHistory) -> None:
        self._log = log
        self._objects = objects
        self._servers = servers
        self._history = history
        self._store = history.store

    async def remove(self, unreadable: Collection[str]) -> bool:
        """Remove what a snapshot has; the records last, and then the leases, by which it is seen that there is more.

        Args:
            unreadable: runs that stay, since they cannot be read.

        Returns:
            Whether nothing is left; else there are new runs, or a server of the former version has come.
        """
        for folder in (*INDEXES, KEYS):
            await self._remove_each(stat.key for stat in self._store.list(folder))
        await self._remove_each(key for key in self._objects.log_keys() if id_in(key) not in unreadable)
        left = [*await self._remove_open(), *await self._remove_ended()]
        if not set(left) <= set(unreadable):
            return False
        clusters = [stat.key for stat in await self._log.in_thread(lambda: list(self._store.list(CLUSTERS)))]
        if not await self._servers.are_gone():
            return False
        # In this order: a server that was away finds its claim, or no lease.
        await self._log.in_thread(self._store.delete, *(key for key in clusters if key.endswith(".json")))
        await self._log.in_thread(self._store.delete, *(key for key in clusters if not key.endswith(".json")))
        return True

    async def _remove_open(self) -> list[str]:
        """Remove records of open runs that the log of events has; returns which others are left."""
        state, left = self._log.state, list[str]()
        async for batch in batches(self._log, (stat.key for stat in self._store.list(OPEN))):
            run_ids = [id_in(key) for key in batch]
            known = await known_among(self._log, self._history.pages, run_ids)
            ended = await for_each(self._log, lambda run_id: bool(run_id) and self._objects.has_ended(run_id), run_ids)
            for run_id, has_ended in zip(run_ids, ended, strict=True):
                if has_ended and run_id in known and run_id not in state.open:
                    # Its outcome was stored, and no more: attempts may have left datasets.
                    stored = state.find(run_id) or await self._log.in_thread(self._find_in_pages, run_id)
                    if stored is not None:
                        await self._log.stored(self._log.append(Leftovers(run=stored.run)))
            doomed = {run_id for run_id, has_ended in zip(run_ids, ended, strict=True) if has_ended} | known
            await self._delete([key for key in batch if id_in(key) in doomed])
            left += [run_id for run_id in run_ids if run_id and run_id not in doomed]
        return left

    async def _remove_ended(self) -> list[str]:
        """Remove records of ended runs that the log of events has, or that have expired; which others are left."""
        left = list[str]()
        async for batch in batches(self._log, (stat.key for stat in self._store.list(DONE))):
            run_ids = [run_id for key in batch if (run_id := id_in(key))]
            known = await known_among(self._log, self._history.pages, run_ids)
            doomed = known | {run_id for run_id in run_ids if self._has_expired(run_id)}
            await self._delete([key for key in batch if id_in(key) in doomed])
            left += [run_id for run_id in run_ids if run_id not in doomed]
        return left

    def _find_in_pages(self, run_id: str) -> StoredRun | None:
        return self._history.pages.find(list(self._log.state.pages.values()), run_id)

    async def _remove_each(self, keys: Iterator[str]) -> None:
        async for batch in batches(self._log, keys):
            await self._delete(batch)

    async def _delete(self, keys: Collection[str]) -> None:
        """Remove objects that were listed before.

        Raises:
            StaleError: a server of the former version has come, which may have made them.
        """
        if keys and not await self._servers.are_gone():
            raise StaleError
        await self._log.in_thread(self._store.delete, *keys)

    def _has_expired(self, run_id: str) -> bool:
        before = self._history.retention.removable_before()
        return before is not None and time_of(run_id) < before
