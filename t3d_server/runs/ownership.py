"""Which cluster has which runs, where several use one bucket, as during an upgrade.

    coordinator/<cluster id>.json     a cluster's lease, written anew every few seconds
    coordinator/<cluster id>.claim    who takes over the runs of a cluster that is gone

Each record of a run names its cluster. A lease counts as dead once it was seen unchanged for `LEASE_S` by the clock of
the one who looks, or at once where its cluster has given it back; no clocks are compared. Claims are written with
`if_absent`: exactly one cluster takes over. One that was only away finds its claim, and goes on under another id.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError, StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.storage.base import ObjectStore, exists, read

FOLDER = "coordinator/"
LEASE_S = 15.0
RENEW_S = 3.0
HELD_S = LEASE_S * 2 / 3
"""A cluster relies on its own lease for less long than the others do."""


class Ownership:
    """A cluster's lease, and those that it has taken over. The methods block; `held` and `owns` do not.

    Args:
        store: where leases are kept.
        cluster_id: made once for each cluster; kept when its coordinator is started again.
        clock: seconds, never set back.

    Attributes:
        id: under which this cluster has its runs: that id, with a number if earlier ones were claimed by others.
    """

    def __init__(self, store: ObjectStore, cluster_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.id = cluster_id
        self._store = store
        self._cluster_id = cluster_id
        self._clock = clock
        self._renewed = -math.inf
        self._heirs: dict[str, str] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}

    def join(self) -> None:
        """Take a lease."""
        number = 0
        while not self._taken():
            number += 1
            self.id = f"{self._cluster_id}-{number}"

    def held(self) -> bool:
        """Whether no other cluster can have taken over the runs of this one."""
        return self._clock() - self._renewed < HELD_S

    def renew(self) -> bool:
        """Renew the lease; False if another cluster has taken over, and `join` is to be called."""
        there = {stat.key for stat in self._store.list(f"{FOLDER}{self.id}.")}
        if there == {_lease(self.id)} and self._taken():
            return True
        self._renewed = -math.inf
        return False

    def release(self) -> None:
        """Give the lease back: others need not wait."""
        self._renewed = -math.inf
        self._store.put(_lease(self.id), json.dumps({"released": True}).encode())

    def owns(self, owner: str) -> bool:
        """Whether runs with this owner are this cluster's."""
        return self.id in self._line(owner)

    def inherit(self) -> bool:
        """Look at the other clusters' leases, and take over from those that are gone; whether there were any."""
        keys = [stat.key.removeprefix(FOLDER) for stat in self._store.list(FOLDER)]
        claimed = {key.removesuffix(".claim") for key in keys if key.endswith(".claim")}
        inherited = False
        self._heirs = {cluster: heir for cluster, heir in self._heirs.items() if cluster in claimed}
        for cluster in claimed - set(self._heirs):
            self._heirs[cluster] = json.loads(read(self._store, _claim(cluster)))["heir"]
            inherited |= self._heirs[cluster] == self.id  # the answer to this claim was lost
        others = {key.removesuffix(".json") for key in keys if key.endswith(".json")} - claimed - {self.id}
        self._seen = {cluster: seen for cluster, seen in self._seen.items() if cluster in others}
        try:
            for cluster in sorted(others):
                inherited |= self._is_gone(cluster) and self._claimed(cluster)
        except StoreUnavailableError:
            self._seen.clear()  # while the store is away, nobody can renew
            raise
        return inherited

    def forget(self, owners: Iterable[str]) -> None:
        """Remove what is kept of clusters that were taken over, but for those that have runs or inherit them.

        Args:
            owners: the owners of all open runs.
        """
        needed = {cluster for owner in owners for cluster in self._line(owner)}
        for cluster in set(self._heirs) - needed - {self.id}:
            # In this order: a cluster that comes back finds either its claim or no lease.
            self._store.delete(_lease(cluster))
            self._store.delete(_claim(cluster))
            del self._heirs[cluster]

    def _taken(self) -> bool:
        """Write the lease; whether no other cluster has claimed it by then."""
        began = self._clock()
        self._store.put(_lease(self.id), json.dumps({"renewal": new_id()}).encode())
        if exists(self._store, _claim(self.id)):
            return False
        self._renewed = began
        return True

    def _line(self, owner: str) -> list[str]:
        """A cluster, its heir, the heir of that, and so on."""
        line = [owner]
        while line[-1] != self.id and (heir := self._heirs.get(line[-1])) is not None and heir not in line:
            line.append(heir)
        return line

    def _is_gone(self, cluster: str) -> bool:
        looked = self._clock()
        try:
            content = read(self._store, _lease(cluster))
        except ObjectNotFoundError:
            return False
        if json.loads(content).get("released"):
            return True
        seen = self._seen.get(cluster)
        if seen is None or seen[0] != content:
            self._seen[cluster] = content, self._clock()
            return False
        return looked - seen[1] >= LEASE_S

    def _claimed(self, cluster: str) -> bool:
        try:
            self._store.put(_claim(cluster), json.dumps({"heir": self.id}).encode(), if_absent=True)
        except ObjectExistsError:
            return False
        if not self.held():  # this process was stopped in between, and may be taken for gone itself
            self._store.delete(_claim(cluster))
            return False
        self._heirs[cluster] = self.id
        return True


def _lease(cluster: str) -> str:
    return f"{FOLDER}{cluster}.json"


def _claim(cluster: str) -> str:
    return f"{FOLDER}{cluster}.claim"
