"""Submissions: each is one run, also where it is repeated, and none is lost that its client was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from t3d_server.errors import InvalidRequestError, ServerUnavailableError, StoreUnavailableError
from t3d_server.models import Run, RunRequest
from t3d_server.run_store.event_log import Append, EventLog
from t3d_server.run_store.events import Accepted, Withdrawn
from t3d_server.run_store.records import FencedError, KeyHeldError
from t3d_server.runs.acceptance import request_sha256
from t3d_server.runs.admission import Admission, key_hash
from t3d_server.runs.live_run import LiveRun
from t3d_server.runs.lookup import TAKEN_OVER, Lookup
from t3d_server.runs.tasks import Tasks


@dataclass(eq=False)
class Arrival:
    """A run that is being recorded.

    Attributes:
        run: the run.
        request_sha256: hash of what was asked for.
        append: its event.
        refused: its client got an error, because the store did not answer.
        settled: done once it waits for a replica, or is known not to be on record.
    """

    run: LiveRun
    request_sha256: str
    append: Append
    refused: bool = False
    settled: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Submissions:
    """Records runs, and hands them over to the scheduler.

    Args:
        admission: checks what is asked for.
        log: the log.
        lookup: finds runs that were submitted before.
        live: the runs of this cluster that have not ended, by id.
        admit: takes a run that is on record.
    """

    def __init__(
        self,
        admission: Admission,
        log: EventLog,
        lookup: Lookup,
        live: Mapping[str, LiveRun],
        admit: Callable[[LiveRun], None],
    ) -> None:
        self._admission = admission
        self._log = log
        self._lookup = lookup
        self._live = live
        self._admit = admit
        self._arrivals: dict[str, Arrival] = {}
        self._tasks = Tasks()

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._arrivals

    async def arrived(self, run_id: str) -> None:
        """Return once a run that is just being submitted waits for a replica, or is known not to be on record.

        Raises:
            StoreUnavailableError: that is not known yet.
        """
        if (arrival := self._arrivals.get(run_id)) is not None:
            await self._known(arrival)

    async def all_arrived(self, algorithm: str, version: str) -> None:
        """Return once no run of a version is just being submitted."""
        arrivals = {arrival for arrival in self._arrivals.values() if arrival.run.queue[:2] == (algorithm, version)}
        await asyncio.gather(*(asyncio.shield(arrival.settled) for arrival in arrivals))

    async def submit(self, *, algorithm: str, request: RunRequest, run_id: str, key: str | None) -> Run:
        """See `Runs.submit`."""
        hashed, sha256 = key_hash(key), request_sha256(algorithm, request)
        if (known := await self._submitted(run_id, hashed, sha256)) is not None:
            return known
        run = self._admission.check(algorithm, request, run_id)
        accepted = Accepted(run=run.run, key=hashed, request_sha256=sha256, lines=run.log)
        arrival = Arrival(run, sha256, self._log.append(accepted))
        names = [run_id, hashed] if hashed else [run_id]
        self._arrivals |= dict.fromkeys(names, arrival)
        self._admission.arriving(run)
        self._tasks.start(self._settle(arrival, names))
        try:
            await self._log.stored(arrival.append)
        except StoreUnavailableError:
            # With a key, submitting again gives the run; without one nobody can know of it.
            arrival.refused = not self._log.retract(arrival.append) and key is None
            raise
        except KeyHeldError as held:
            return await self._held(held.run_id, hashed, sha256)
        except FencedError as error:
            raise ServerUnavailableError(TAKEN_OVER) from error
        await asyncio.shield(arrival.settled)
        return self._lookup.view(run)

    async def _submitted(self, run_id: str, key: str, sha256: str) -> Run | None:
        """The run that was submitted before under this id or with this key."""
        arrival = self._arrivals.get(run_id) or self._arrivals.get(key)
        if arrival is not None:
            _require_same(arrival.run.run.id, arrival.request_sha256, sha256)
            await self._known(arrival)
        stored = await self._lookup.holder(key) if key else None
        if stored is not None:
            _require_same(stored.run.id, stored.request_sha256, sha256)
        else:
            stored = await self._lookup.accepted_before(run_id)
        if stored is None:
            return None
        live = self._live.get(stored.run.id)
        return stored.run if live is None else self._lookup.view(live)

    async def _held(self, run_id: str, key: str, sha256: str) -> Run:
        """The run that was accepted with the same id or key by another cluster, before this one knew."""
        stored = self._log.state.find(run_id) or await self._lookup.holder(key)
        if stored is None:
            raise ServerUnavailableError("the run was just submitted to another cluster; try again in a moment")
        _require_same(stored.run.id, stored.request_sha256, sha256)
        return stored.run

    async def _settle(self, arrival: Arrival, names: list[str]) -> None:
        """Have a run wait for its turn once it is on record, or withdraw it if its client got an error instead."""
        run, done = arrival.run, arrival.append.done
        await asyncio.wait([done])
        self._admission.arrived(run)
        recorded = not done.cancelled() and done.exception() is None
        if recorded and arrival.refused:
            await asyncio.wait([self._log.append(Withdrawn(run_id=run.run.id)).done])
        elif recorded:
            self._admit(run)
        for name in names:
            if self._arrivals.get(name) is arrival:
                del self._arrivals[name]
        arrival.settled.set_result(None)

    async def _known(self, arrival: Arrival) -> None:
        with suppress(KeyHeldError, FencedError):
            await self._log.stored(arrival.append)
        await asyncio.shield(arrival.settled)


def _require_same(run_id: str, known_sha256: str, sha256: str) -> None:
    """Raises InvalidRequestError where a key was used before for something else."""
    if known_sha256 != sha256:
        raise InvalidRequestError(
            f"The Idempotency-Key was used before, for another request (run {run_id}): "
            "send the same request with it, or another key."
        )
