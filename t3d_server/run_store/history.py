"""Ended runs as a router reads them: by the directory in the newest snapshot, without the coordinator."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import suppress

from t3d_server.clock import SYSTEM_CLOCK, Clock
from t3d_server.errors import ObjectNotFoundError, RunNotFoundError
from t3d_server.ids import is_id
from t3d_server.models import LogLine, Run, RunStatus
from t3d_server.run_store.events import PageInfo
from t3d_server.run_store.logs import read_log
from t3d_server.run_store.pages import PageReader
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.segments import newest_snapshot, seq_of
from t3d_server.run_store.state import directory
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import RUN_SNAPSHOTS
from t3d_server.storage.retention import Retention


class RunHistory:
    """Reads ended runs. All methods block, and are safe to use from several threads.

    Args:
        store: where they are.
        keep_s: how long a run is kept, from its submission on; None for ever.
        keep_logs_s: how long its log is kept; None as long as the run.
        clock: the clock.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        keep_s: float | None = None,
        keep_logs_s: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.store = store
        self.retention = Retention("run", keep_s, "T3D_KEEP_RUNS_S", clock)
        self.log_retention = Retention("the log of run", keep_logs_s, "T3D_KEEP_LOGS_S", clock)
        self.pages = PageReader(store)
        self._lock = threading.Lock()
        self._snapshot = ""
        self._directory: Collection[PageInfo] = ()

    def find(self, run_id: str) -> StoredRun:
        """An ended run by its id.

        Raises:
            RunNotFoundError: there is none, or it was not put into a page yet.
            ExpiredError: there is none any more.
        """
        if (expired := self.retention.expired(run_id)) is not None:
            raise expired
        if is_id(run_id):
            for refresh in (False, True):
                with suppress(ObjectNotFoundError):  # the page was removed
                    pages = self._refreshed() if refresh else self._directory
                    if (stored := self.pages.find(pages, run_id)) is not None:
                        return stored
        raise RunNotFoundError(f"there is no run {run_id!r}; `t3d runs` lists those there are")

    def log(self, stored: StoredRun) -> list[LogLine]:
        """The log of an ended run; empty where it logged nothing.

        Raises:
            ExpiredError: it is not kept any more.
        """
        if (expired := self.log_retention.expired(stored.run.id)) is not None:
            raise expired
        return read_log(self.store, stored.log).lines if stored.log else stored.lines

    def newest(
        self,
        *,
        limit: int,
        before: str | None = None,
        algorithm: str | None = None,
        status: RunStatus | None = None,
        snapshot_seq: int = 0,
    ) -> tuple[list[Run], bool]:
        """Ended runs, newest first; see `PageReader.newest`.

        Args:
            limit: most runs.
            before: only runs with smaller ids.
            algorithm: only runs of this one.
            status: only runs that ended so.
            snapshot_seq: a snapshot whose pages are to be among those that are looked at.

        Returns:
            The runs, and whether there may be older ones.
        """
        current = self._snapshot and seq_of(self._snapshot) >= snapshot_seq
        pages = self._directory if current else self._refreshed()
        try:
            return self._newest(pages, limit, before, algorithm, status)
        except ObjectNotFoundError:  # a page has expired
            return self._newest(self._refreshed(), limit, before, algorithm, status)

    def _newest(
        self,
        pages: Collection[PageInfo],
        limit: int,
        before: str | None,
        algorithm: str | None,
        status: RunStatus | None,
    ) -> tuple[list[Run], bool]:
        found, more = self.pages.newest(pages, limit=limit, before=before, algorithm=algorithm, status=status)
        runs = [
            stored.run
            for name, page in {page.name: page for page, _ in found}.items()
            for stored in self.pages.read(page, [row for each, row in found if each.name == name])
            if self.retention.expired(stored.run.id) is None
        ]
        return sorted(runs, key=lambda run: run.id, reverse=True), more

    def _refreshed(self) -> Collection[PageInfo]:
        """The directory as the newest snapshot has it."""
        with self._lock:
            keys = [stat.key for stat in self.store.list(RUN_SNAPSHOTS)]
            if keys and keys[-1] != self._snapshot and (newest := newest_snapshot(self.store)) is not None:
                key, content = newest
                self._directory = directory(content)
                self._snapshot = key
            return self._directory
