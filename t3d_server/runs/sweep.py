"""Removes what has expired: datasets, runs with their logs and keys, and uploads; a bounded number at a time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from t3d_server.errors import StoreUnavailableError
from t3d_server.models import Run
from t3d_server.runs.records import RunRecords

logger = logging.getLogger(__name__)

INTERVAL_S = 60.0
PAUSE_S = 1.0
"""Between passes while there is more to remove."""
LIMIT = 1000
LISTING_S = 3600.0
"""Folders whose keys carry no time have to be listed whole: not at each pass."""


class Datasets(Protocol):
    """The datasets, of which some may have expired."""

    @property
    def expires(self) -> bool:
        """Whether any do."""

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        """Remove some of those that have expired; returns how many."""

    def remove_expired_uploads(self, limit: int) -> int:
        """Remove some of the uploads that nobody has used in that time, and names of datasets; returns how many."""


class Sweep:
    """Removes what has expired, and spares runs that have not ended, of whatever cluster, and their inputs.

    Args:
        records: the records of runs.
        datasets: the datasets.
        live: the runs of this cluster that have not ended.
    """

    def __init__(self, records: RunRecords, datasets: Datasets, live: Callable[[], Iterable[Run]]) -> None:
        self._records = records
        self._datasets = datasets
        self._live = live
        self._listed = -math.inf

    async def go_on(self) -> None:
        """Sweep now and then, for ever, if anything expires."""
        while self._records.expires or self._datasets.expires:
            more = False
            try:
                more = await self.once()
            except StoreUnavailableError as error:
                logger.warning("what has expired cannot be removed: %s", error)
            except Exception:  # the next pass may do better
                logger.exception("what has expired cannot be removed")
            await asyncio.sleep(PAUSE_S if more else INTERVAL_S)

    async def once(self) -> bool:
        """One pass; whether there may be more to remove."""
        return await asyncio.to_thread(self._sweep, {run.id: run for run in self._live()})

    def _sweep(self, live: dict[str, Run]) -> bool:
        open_ids = self._records.open_ids()
        runs = [*live.values(), *self._records.open_runs(open_ids - live.keys())]  # the latter are of other clusters
        inputs = {dataset_id for run in runs for dataset_id in run.input_dataset_ids}
        spared = open_ids | live.keys()
        removed = {
            "datasets": self._datasets.remove_expired(inputs, LIMIT),
            "runs": self._records.remove_expired(spared, LIMIT),
            "logs": self._records.remove_expired_logs(LIMIT),
        }
        if time.monotonic() - self._listed >= LISTING_S:
            unordered = {
                "uploads": self._datasets.remove_expired_uploads(LIMIT),
                "idempotency keys": self._records.remove_expired_keys(spared, LIMIT),
            }
            if LIMIT not in unordered.values():
                self._listed = time.monotonic()
            removed |= unordered
        for what, count in removed.items():
            if count:
                logger.info("%d %s have expired and were removed", count, what)
        return LIMIT in removed.values()
