"""Keeps the cluster's lease, and takes up runs: those of before a restart, and those of clusters that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from t3d_server.errors import ServerUnavailableError, StoreUnavailableError
from t3d_server.runs.ownership import RENEW_S, Ownership
from t3d_server.runs.records import Record, RunRecords

logger = logging.getLogger(__name__)

ANNOUNCE_S = 2.0
"""After a restart nothing begins for this long: replicas report at least every second, and so make known what they
work on where no record tells."""


class Taker(Protocol):
    """Who takes up runs."""

    async def take_up(self, record: Record, *, ended: bool) -> None:
        """Go on with a run, or put its end on file; doing it again changes nothing."""

    async def catch_up(self) -> None:
        """Is called before the runs of another cluster are taken up."""

    def pause(self, for_s: float) -> None:
        """Begin no run for some time."""

    def disown(self) -> None:
        """Forget all runs: another cluster has them."""


class Recovery:
    """Takes up what is this cluster's, and notices what becomes so, or is no longer.

    Args:
        ownership: the leases.
        records: the records of runs.
        taker: takes up runs.
    """

    def __init__(self, ownership: Ownership, records: RunRecords, taker: Taker) -> None:
        self._ownership = ownership
        self._records = records
        self._taker = taker
        self._renewing: asyncio.Future[bool] | None = None
        self._behind = False
        self._keeping: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take a lease and the runs that are there for this cluster; goes on in the background."""
        await asyncio.to_thread(self._ownership.join)
        await asyncio.to_thread(self._ownership.inherit)
        records = await asyncio.to_thread(self._records.open_runs)
        if any(record.owner == self._ownership.id for record in records):
            self._taker.pause(ANNOUNCE_S)
        await self._take_up(records)
        await asyncio.to_thread(self._ownership.forget, {record.owner for record in records})
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def end(self) -> None:
        """Give the lease back."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        if self._renewing is not None:
            await asyncio.wait([self._renewing])  # else it could come after the release
        self._taker.disown()
        await asyncio.to_thread(self._ownership.release)

    async def hold_lease(self) -> None:
        """Returns if no other cluster can have taken over.

        Raises:
            ServerUnavailableError: one has, or will have.
            StoreUnavailableError: that cannot be told.
        """
        if self._ownership.held():
            return
        if self._keeping is None or self._keeping.done() or not await self._renewed():
            raise ServerUnavailableError("another cluster takes over the runs of this one; try again in a moment")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._look()
            except StoreUnavailableError as error:
                logger.warning("the leases cannot be looked at: %s", error)
            except Exception:  # the next look may do better; without it the lease would be lost
                logger.exception("the leases cannot be looked at")

    async def _look(self) -> None:
        if not await self._renewed():
            logger.warning("another cluster has taken over the runs of this one")
            self._taker.disown()
            await asyncio.to_thread(self._ownership.join)
        self._behind |= await asyncio.to_thread(self._ownership.inherit)
        if self._behind:
            await self._taker.catch_up()
            records = await asyncio.to_thread(self._records.open_runs)
            # Those of its own are known, or are just being accepted.
            await self._take_up([record for record in records if record.owner != self._ownership.id])
            self._behind = False

    async def _renewed(self) -> bool:
        """Renew the lease; who asks meanwhile gets the same answer, however long the store takes for it."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.ensure_future(asyncio.to_thread(self._ownership.renew))
        return await asyncio.shield(self._renewing)

    async def _take_up(self, records: list[Record]) -> None:
        """Take up those of these runs that are this cluster's."""
        ours = [record for record in records if self._ownership.owns(record.owner)]
        ended = await asyncio.to_thread(self._records.ended_among, [record.id for record in ours])
        for record in ours:
            await self._taker.take_up(record, ended=record.id in ended)
