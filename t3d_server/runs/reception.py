"""Accepts runs: once each, as many as may wait, and none of a version that is on its way out."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol
from weakref import WeakValueDictionary

from t3d_server.errors import InvalidRequestError, QueueFullError, RunNotFoundError, T3dError, VersionNotFoundError
from t3d_server.models import AlgorithmVersion, Device, Run, RunRequest
from t3d_server.runs.acceptance import RunLimits, accept, request_sha256
from t3d_server.runs.entry import Entry
from t3d_server.runs.journal import Journal
from t3d_server.runs.records import KeyHolder, RunRecords

LONGEST_RETRY_S = 60
UNKNOWN_RUN_S = 10.0
"""What a run is taken to last of an algorithm of which none has ended; longer, if one is at work for longer."""
_WEIGHT = 0.2


class Catalog(Protocol):
    """Finds published versions, without input or output."""

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        """The version, or the current one."""

    async def refresh(self) -> None:
        """Take notice of what another cluster has published."""


class Queues(Protocol):
    """How much waits."""

    def count(self, algorithm: str | None = None) -> int:
        """How many runs wait, of one algorithm or of all."""

    def slots(self, algorithm: str) -> int:
        """How many runs of an algorithm can be worked on at a time."""


class Reception:
    """Makes runs of requests, records them, and hands them over.

    Args:
        records: finds the runs of idempotency keys.
        journal: writes their records.
        catalog: finds published versions.
        devices: tells which devices the cluster has.
        limits: what is allowed.
        queues: how much waits.
        known: a run that is live or has ended lately.
        longest_s: for how long the longest of an algorithm's runs that go on is at work; 0 where none does.
        admit: takes a run that is on record.
        hold_lease: returns if no other cluster can have taken over this one's runs, else raises.
    """

    def __init__(
        self,
        records: RunRecords,
        journal: Journal,
        catalog: Catalog,
        devices: Callable[[], Collection[Device]],
        limits: RunLimits,
        queues: Queues,
        known: Callable[[str], Entry | None],
        longest_s: Callable[[str], float],
        admit: Callable[[Entry], None],
        hold_lease: Callable[[], Awaitable[None]],
    ) -> None:
        self._records = records
        self._journal = journal
        self._catalog = catalog
        self._devices = devices
        self._limits = limits
        self._queues = queues
        self._known = known
        self._longest_s = longest_s
        self._admit = admit
        self._hold_lease = hold_lease
        self._closed: set[tuple[str, str]] = set()
        self._arriving: dict[str, tuple[Entry, asyncio.Task[Entry | Run]]] = {}
        self._keys: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._run_times_s: dict[str, float] = {}

    async def submit(self, algorithm: str, request: RunRequest, run_id: str, key: str | None) -> Entry | Run:
        """See `Coordinator.submit`."""
        if key is None:
            known = await self.arrived(run_id)
            return known or await self._accepted(self._checked(algorithm, request, run_id))
        hashed = hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()
        async with self._keys.setdefault(hashed, asyncio.Lock()):
            return await self._submit_once(algorithm, request, run_id, hashed)

    async def _submit_once(self, algorithm: str, request: RunRequest, run_id: str, key: str) -> Entry | Run:
        """Submit a run unless one was submitted with this key."""
        if (known := await self.arrived(run_id)) is not None:
            return known
        mine = KeyHolder(run_id=run_id, request_sha256=request_sha256(algorithm, request))
        try:
            entry = self._checked(algorithm, request, run_id, key)
        except T3dError:  # that one may have been accepted all the same, at its time
            holder = await asyncio.to_thread(self._records.key_holder, key)
            if holder is None:
                raise
            return await self._submitted(holder, mine)
        return await self._accepted(entry, mine)

    async def _submitted(self, holder: KeyHolder, mine: KeyHolder) -> Entry | Run:
        """The run that was submitted before with the same key.

        Raises:
            InvalidRequestError: that one was for something else.
            RunNotFoundError: it was never recorded.
        """
        if holder.request_sha256 != mine.request_sha256:
            raise InvalidRequestError(
                f"The Idempotency-Key was used before, for another request (run {holder.run_id}): "
                "send the same request with it, or another key."
            )
        entry = await self.arrived(holder.run_id)
        return await asyncio.to_thread(self._records.find, holder.run_id) if entry is None else entry

    async def _accepted(self, entry: Entry, mine: KeyHolder | None = None) -> Entry | Run:
        """The run, once it is on record; or the one that was submitted with its key before."""
        run_id = entry.run.id
        # From the step on in which it was checked, it takes its room, and a version that is closed waits for it.
        task = asyncio.get_running_loop().create_task(self._arrive(entry, mine))
        self._arriving[run_id] = entry, task
        task.add_done_callback(lambda _: self._arriving.pop(run_id))
        return await asyncio.shield(task)

    async def arrived(self, run_id: str) -> Entry | None:
        """A run that is known, or will be in a moment."""
        if run_id in self._arriving:
            await asyncio.shield(self._arriving[run_id][1])
        return self._known(run_id)

    async def close(self, algorithm: str, version: str) -> None:
        """Accept no more runs of a version; returns once those that were being accepted are admitted."""
        self._closed.add((algorithm, version))
        arriving = [
            task
            for entry, task in self._arriving.values()
            if (entry.run.algorithm, entry.run.version) == (algorithm, version)
        ]
        if arriving:
            await asyncio.wait(arriving)

    def reopen(self, algorithm: str, version: str) -> None:
        """Accept runs of a version again."""
        self._closed.discard((algorithm, version))

    def has_ended(self, run: Run) -> None:
        """Learn from a run how long those of its algorithm take."""
        if run.started_at is not None and run.ended_at is not None:
            run_time_s = (run.ended_at - run.started_at).total_seconds()
            known_s = self._run_times_s.get(run.algorithm, run_time_s)
            self._run_times_s[run.algorithm] = known_s + _WEIGHT * (run_time_s - known_s)

    def _checked(self, algorithm: str, request: RunRequest, run_id: str, key: str = "") -> Entry:
        manifest = self._catalog.find(algorithm, request.version).manifest
        if (manifest.name, manifest.version) in self._closed:
            raise VersionNotFoundError(f"{manifest.name} {manifest.version} is being removed")
        run, warnings = accept(manifest, request, self._devices(), run_id, self._limits.max_run_s)
        self._require_room(manifest.name)
        entry = Entry(run, manifest, key=key)
        for warning in warnings:
            entry.note("WARNING", warning)
        return entry

    def _require_room(self, algorithm: str) -> None:
        arriving = [entry.run.algorithm for entry, _ in self._arriving.values()]
        of_algorithm = self._queues.count(algorithm) + arriving.count(algorithm)
        if of_algorithm >= self._limits.max_queued_per_algorithm:
            what = f"{of_algorithm} runs of {algorithm} wait, as many as may (T3D_MAX_QUEUED_RUNS_PER_ALGORITHM)"
        elif self._queues.count() + len(arriving) >= self._limits.max_queued:
            what = f"{self._queues.count() + len(arriving)} runs wait, as many as may (T3D_MAX_QUEUED_RUNS)"
        else:
            return
        run_time_s = self._run_times_s.get(algorithm) or max(UNKNOWN_RUN_S, self._longest_s(algorithm))
        one_begins_s = run_time_s / max(1, self._queues.slots(algorithm))
        retry_after_s = min(LONGEST_RETRY_S, max(1, math.ceil(one_begins_s)))
        raise QueueFullError(f"{what}; try again in a while", retry_after_s=retry_after_s)

    async def _arrive(self, entry: Entry, mine: KeyHolder | None) -> Entry | Run:
        await self._hold_lease()
        if mine is not None:
            holder = await asyncio.to_thread(self._records.hold_key, entry.key, mine)
            if holder != mine:
                try:
                    return await self._submitted(holder, mine)
                except RunNotFoundError:  # a crash came between the key and the record
                    entry.run = entry.run.model_copy(update={"id": holder.run_id})
        await self._journal.accept(entry)
        await self._hold_lease()  # if it was lost meanwhile, whoever took over may not have seen the record
        self._admit(entry)
        return entry
