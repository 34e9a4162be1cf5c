"""Removes what is not needed any more: what has expired, and datasets of attempts that do not count."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol

from t3d_server.clock import Clock
from t3d_server.errors import ObjectNotFoundError, StoreUnavailableError
from t3d_server.ids import tag_for, time_of
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import Expired, Paged, PageInfo, Swept
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.pages import write_page
from t3d_server.run_store.records import FencedError, StaleError
from t3d_server.run_store.timings import Timings
from t3d_server.runs.replica_calls import Replicas
from t3d_server.storage.keys import EXECUTIONS, RUN_LOGS, page_key
from t3d_server.storage.retention import remove_expired

logger = logging.getLogger(__name__)

LIMIT = 1000
"""Most objects of a kind that are removed in one pass."""
CLOCKS_DIFFER = timedelta(seconds=60)
"""Ids of outputs carry the time of the replica's machine, runs that of the router's or the coordinator's."""


class Datasets(Protocol):
    """The datasets, of which some may have expired, and some may belong to no run."""

    @property
    def expires(self) -> bool:
        """Whether any expire."""

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        """Remove some of those that have expired; returns how many."""

    def remove_expired_uploads(self, limit: int) -> int:
        """Remove some of the uploads that nobody has used in that time, and names of datasets; returns how many."""

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        """Remove the datasets that belong to these tags; see `DatasetStore.remove_tagged`."""


class Expiry:
    """Removes what has expired, but for runs that have not ended, of whatever cluster, and their inputs.

    Args:
        log: the log.
        history: the ended runs.
        datasets: the datasets.
        replicas: tells which replicas have ended.
        compactor: writes snapshots.
        clock: the clock.
        timings: how long what takes.
    """

    def __init__(
        self,
        log: EventLog,
        history: RunHistory,
        datasets: Datasets,
        replicas: Replicas,
        compactor: Compactor,
        *,
        clock: Clock,
        timings: Timings,
    ) -> None:
        self._log = log
        self._history = history
        self._datasets = datasets
        self._replicas = replicas
        self._compactor = compactor
        self._clock = clock
        self._timings = timings
        self._listed_s = -math.inf
        self._swept_s = self._pages_listed_s = -math.inf

    async def watch_expired(self) -> None:
        """Remove what has expired now and then, for ever, if anything expires."""
        history = self._history
        while history.retention or history.log_retention or self._datasets.expires:
            more = await _tried(self.remove_expired())
            await asyncio.sleep(self._timings.expiry_pause_s if more else self._timings.expiry_s)

    async def watch_leftovers(self) -> None:
        """Remove datasets of attempts that do not count, and now and then pages that nobody knows, for ever."""
        while True:
            await asyncio.sleep(self._timings.sweep_look_s)
            await _tried(self.sweep())
            if self._clock.seconds() - self._pages_listed_s >= self._timings.listing_s:
                self._pages_listed_s = self._clock.seconds()
                await _tried(self._compactor.remove_unknown_pages())

    async def remove_expired(self) -> bool:
        """One pass; whether there may be more to remove.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        removed = {"runs": await self._remove_runs()}
        open_runs = self._log.state.open  # as it is after that, which may take long
        open_ids = set(open_runs)
        inputs = {dataset_id for stored in open_runs.values() for dataset_id in stored.run.input_dataset_ids}
        removed |= await self._log.in_thread(self._remove_objects, open_ids, inputs)
        for what, count in removed.items():
            if count:
                logger.info("%d %s have expired and were removed", count, what)
        return LIMIT in removed.values()

    async def sweep(self) -> None:
        """Remove what attempts may have left: once it is all there, and again while a replica may add to it.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        due = self._clock.now() - timedelta(seconds=self._timings.sweep_after_s)
        members = self._log.state.members
        sweeps = {
            run_id: sweep
            for run_id, sweep in self._log.state.sweeps.items()
            if sweep.since < due and (sweep.owner == self._log.cluster or sweep.owner not in members)
        }
        replicas = {replica for sweep in sweeps.values() for replica in sweep.replicas}
        alive = {replica for replica in replicas if not await self._replicas.is_gone(replica)}
        final = [run_id for run_id, sweep in sweeps.items() if alive.isdisjoint(sweep.replicas)]
        if not final and self._clock.seconds() - self._swept_s < self._timings.expiry_s:
            return
        if sweeps:
            self._swept_s = self._clock.seconds()
            tags = {tag_for(run_id) for run_id in sweeps}
            since = min(sweep.created_at for sweep in sweeps.values()) - CLOCKS_DIFFER
            outputs = {dataset_id for sweep in sweeps.values() for dataset_id in sweep.outputs}
            await self._log.in_thread(lambda: self._datasets.remove_tagged(tags, since, but=outputs))
            await self._log.append(Swept(run_ids=final, before=due)).done

    async def _remove_runs(self) -> int:
        """Forget the pages and runs that have expired, and the logs; returns how many runs."""
        state, history = self._log.state, self._history
        before, logs_before = history.retention.removable_before(), history.log_retention.removable_before()
        pages = [page for page in state.pages.values() if _is_before(page.last, before)]
        run_ids = [run_id for run_id in state.ended if _is_before(run_id, before)]
        logs_of = [
            run_id
            for run_id, stored in state.ended.items()
            if _is_before(run_id, logs_before) and (stored.lines or stored.log)
        ]
        if pages or run_ids or logs_of:
            event = Expired(pages=[page.name for page in pages], run_ids=run_ids, logs_of=logs_of)
            await self._log.append(event).done
        doomed = [page.name for page in pages]
        with_logs = [page for page in state.pages.values() if page.logs and _is_before(page.last, logs_before)]
        doomed += [await self._drop_logs(page) for page in with_logs]
        if doomed:
            await self._compactor.snapshot()  # readers look for those that the newest one has
            await self._log.in_thread(history.store.delete, *map(page_key, doomed))
        return len(run_ids) + sum(sum(page.counts.values()) for page in pages)

    async def _drop_logs(self, page: PageInfo) -> str:
        """Write a page again without its logs; name of the one that is not needed any more."""
        reader, store = self._history.pages, self._history.store
        try:
            runs = await self._log.in_thread(lambda: reader.read(page, reader.index(page)))
        except ObjectNotFoundError:  # another cluster has done it
            return page.name
        without = [stored.model_copy(update={"lines": [], "log": ""}) for stored in runs]
        again = await self._log.in_thread(write_page, store, without)
        if not page.keys:  # they have expired
            again = again.model_copy(update={"keys": ""})
        try:
            await self._log.append(Paged(page=again, replaces=page.name)).done
        except StaleError:  # another cluster has done it
            return again.name
        return page.name

    def _remove_objects(self, open_ids: Collection[str], inputs: Collection[str]) -> dict[str, int]:
        history = self._history
        store, runs, logs = history.store, history.retention, history.log_retention
        removed = {
            "datasets": self._datasets.remove_expired(inputs, LIMIT),
            "logs": remove_expired(store, RUN_LOGS, ".jsonl", logs or runs, spared=open_ids, limit=LIMIT),
            "executions": remove_expired(store, EXECUTIONS, ".json", runs, spared=open_ids, limit=LIMIT),
        }
        if self._clock.seconds() - self._listed_s >= self._timings.listing_s:
            removed["uploads"] = self._datasets.remove_expired_uploads(LIMIT)
            if removed["uploads"] < LIMIT:
                self._listed_s = self._clock.seconds()
        return removed


def _is_before(run_id: str, time: datetime | None) -> bool:
    return time is not None and time_of(run_id) < time


async def _tried(work: Coroutine[Any, Any, bool | None]) -> bool:
    """Await what is to be repeated where it fails; whether there is more to do."""
    try:
        return bool(await work)
    except (StoreUnavailableError, FencedError) as error:
        logger.warning("what is not needed any more cannot be removed: %s", error or type(error).__name__)
    except Exception:  # the next pass may do better
        logger.exception("what is not needed any more cannot be removed")
    return False
