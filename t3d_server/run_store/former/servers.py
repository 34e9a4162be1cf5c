"""The servers that still write the former layout: whether one is alive, and which runs none of them goes on with.

    coordinator/<cluster>.json      a lease, written anew every few seconds; {"released": true} once the server has left
    coordinator/<cluster>.claim     {"heir": ...}: which cluster has taken over its runs

A claim is written with `if_absent`, so that exactly one takes over. A server that was only away finds the claim, and
leaves its runs alone. Dead clusters are left to those that are alive, which take them over by themselves; where none
is, all are claimed for the log of events, as whose heir no cluster stands, but `HEIR`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from t3d_server.clock import Clock
from t3d_server.errors import ObjectExistsError, ObjectNotFoundError, StoreUnavailableError
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.former.objects import CLUSTERS
from t3d_server.run_store.timings import Timings
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS

HEIR = RUN_EVENTS


class FormerState(Enum):
    """What is known of the servers of the former version."""

    ALIVE = auto()
    UNKNOWN = auto()
    GONE = auto()


@dataclass
class _Lease:
    content: bytes
    since_s: float
    is_renewed: bool = False


class FormerServers:
    """Watches the servers of the former version.

    Args:
        log: the log.
        store: where their leases are.
        clock: the clock.
        timings: how long what takes.
    """

    def __init__(self, log: EventLog, store: ObjectStore, *, clock: Clock, timings: Timings) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._timings = timings
        self._leases: dict[str, _Lease] = {}
        self._heirs: dict[str, str] = {}
        self._looked_s = 0.0

    async def look(self) -> FormerState:
        """Look at the leases; claim all clusters where none is alive.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        now_s = self._clock.seconds()
        if now_s - self._looked_s > self._timings.confirmed_s:
            self._leases.clear()  # this process was away: so may they have been
        self._looked_s = now_s
        try:
            contents, self._heirs = await self._log.in_thread(self._read)
        except StoreUnavailableError:
            self._leases.clear()  # while the store is away, nobody can renew
            raise
        for cluster, content in contents.items():
            lease = self._leases.get(cluster)
            if lease is None or lease.content != content:
                self._leases[cluster] = _Lease(content, self._clock.seconds(), is_renewed=lease is not None)
        self._leases = {cluster: self._leases[cluster] for cluster in contents}
        found = {self._state_of(lease, now_s) for lease in self._leases.values()}
        if FormerState.ALIVE in found:
            return FormerState.ALIVE
        if FormerState.UNKNOWN in found:
            return FormerState.UNKNOWN
        if not contents:
            return FormerState.GONE
        for cluster in contents:
            await self._log.in_thread(self._claim, cluster)
        return FormerState.GONE if await self.are_gone() else FormerState.UNKNOWN

    async def are_gone(self) -> bool:
        """Whether all clusters are claimed, and so none writes any more."""
        contents, self._heirs = await self._log.in_thread(self._read)
        return not contents

    @property
    def has_left_runs(self) -> bool:
        """Whether there are runs that no server of the former version goes on with."""
        return HEIR in self._heirs.values()

    async def left_by(self, owners: Collection[str]) -> set[str]:
        """Those of these clusters whose runs no server of the former version goes on with, and none will.

        Args:
            owners: clusters that are named in records, which were read before.
        """
        contents, self._heirs = await self._log.in_thread(self._read)
        left = set[str]()
        for owner in owners:
            heir = self._last_heir(owner)
            if heir == HEIR or (heir not in contents and await self._log.in_thread(self._claim, heir)):
                left.add(owner)
        return left

    def _last_heir(self, cluster: str) -> str:
        """Who has a cluster's runs: it, its heir, the heir of that, and so on."""
        passed = {cluster}
        while (heir := self._heirs.get(cluster)) is not None and heir not in passed:
            passed.add(heir)
            cluster = heir
        return cluster

    def _state_of(self, lease: _Lease, now_s: float) -> FormerState:
        if json.loads(lease.content).get("released"):
            return FormerState.GONE
        if now_s - lease.since_s >= self._timings.dead_s:
            return FormerState.GONE
        return FormerState.ALIVE if lease.is_renewed else FormerState.UNKNOWN

    def _read(self) -> tuple[dict[str, bytes], dict[str, str]]:
        """The leases of clusters that are not claimed, and the heirs of those that are."""
        names = [stat.key.removeprefix(CLUSTERS) for stat in self._store.list(CLUSTERS)]
        heirs, contents = dict[str, str](), dict[str, bytes]()
        for name in names:
            cluster, _, kind = name.rpartition(".")
            try:
                content = read(self._store, CLUSTERS + name)
            except ObjectNotFoundError:
                continue
            if kind == "claim":
                heirs[cluster] = json.loads(content)["heir"]
            elif kind == "json":
                contents[cluster] = content
        return {cluster: content for cluster, content in contents.items() if cluster not in heirs}, heirs

    def _claim(self, cluster: str) -> bool:
        """Claim a cluster's runs for the log of events; whether that is so now."""
        key, content = f"{CLUSTERS}{cluster}.claim", json.dumps({"heir": HEIR}).encode()
        try:
            self._store.put(key, content, if_absent=True)
        except ObjectExistsError:
            try:
                return read(self._store, key) == content
            except ObjectNotFoundError:
                return False
        return True
