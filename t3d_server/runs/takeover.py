"""Takes over the runs of clusters that are gone, where several use one bucket, as during an upgrade.

A cluster counts as gone when it has written nothing for `dead_s` by the clock of the one who looks, while that could
read and write; or at once where it has left. The claim is an event of the log: everything that the other cluster
writes comes before it and counts, or after it and does not. So a clock decides only when a cluster is taken over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from t3d_server.clock import Clock
from t3d_server.errors import StoreUnavailableError
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import Claimed
from t3d_server.run_store.records import FencedError, StaleError
from t3d_server.run_store.timings import Timings

logger = logging.getLogger(__name__)


class Takeover:
    """Watches the other clusters.

    Args:
        log: the log.
        clock: the clock.
        timings: how long what takes.
        adopt: goes on with the runs of this cluster that it does not work on yet.
    """

    def __init__(self, log: EventLog, clock: Clock, timings: Timings, adopt: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._clock = clock
        self._timings = timings
        self._adopt = adopt
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_s = 0.0
        self._to_adopt = False

    async def watch(self) -> None:
        """Look now and then, for ever."""
        while True:
            try:
                await self.look()
            except (StoreUnavailableError, FencedError, StaleError) as error:
                logger.warning("the other clusters cannot be looked at: %s", error or type(error).__name__)
            except Exception:  # the next look may do better
                logger.exception("the other clusters cannot be looked at")
            await asyncio.sleep(self._timings.heartbeat_s)

    async def look(self) -> None:
        """Look once: go on under a new place where this cluster was taken over, and take over those that are gone.

        Raises:
            StoreUnavailableError, FencedError, StaleError: to be repeated.
        """
        log = self._log
        if not log.is_member:
            await log.rejoin()
        await log.catch_up()
        now_s = self._clock.seconds()
        if now_s - self._looked_s > self._timings.confirmed_s:
            self._seen.clear()  # this cluster was away itself
        self._looked_s = now_s
        for cluster, member in log.state.members.copy().items():
            if cluster == log.cluster:
                continue
            segment, since_s = self._seen.get(cluster, (-1, now_s))
            if segment != member.segment:
                self._seen[cluster] = member.segment, now_s
            if member.left or (segment == member.segment and now_s - since_s >= self._timings.dead_s):
                logger.warning("the runs of cluster %s are taken over", cluster)
                await log.append(Claimed(cluster=cluster)).done
                self._to_adopt = True
        if self._to_adopt:
            await self._adopt()
            self._to_adopt = False
