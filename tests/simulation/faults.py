"""Which faults a seed has, and how often each occurs."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any


@dataclass
class Faults:
    """Chances of what may go wrong with a call, and how often what happens to processes; nothing by default.

    Attributes:
        slow_store: a call of the store takes long.
        store_fails: it fails without an effect.
        store_late: it has its effect and fails.
        store_own: a put finds its own object, since the client of the store has repeated it.
        store_zombie: it fails, and has its effect some seconds later.
        outages: the store is away from all.
        partitions: the store is away from one cluster.
        answer_lost: the answer of the coordinator is lost, and the call is repeated.
        slow_calls: a call between processes takes long.
        http_lost: a request of a client is lost, or its answer.
        load_fails: a replica cannot load.
        sent_twice: Serve sends a call to a second replica.
        unreachable: a replica seems to be out of reach.
        clock_skew_s: how far wall clocks may be wrong.
        coordinator_crashes: the process of the coordinator dies, and is started again.
        router_crashes: the process of the router.
        replica_crashes: the process of a replica.
        node_losses: all replicas of a cluster.
        cluster_kills: all processes of a cluster, for good; another one starts later.
        cluster_stops: a cluster is shut down in order.
        coordinator_pauses: the process of the coordinator stands still.
        machine_pauses: all processes of a cluster do.
        suspends: as that, and monotonic clocks stop, as they do while a machine sleeps.
    """

    slow_store: float = 0.0
    store_fails: float = 0.0
    store_late: float = 0.0
    store_own: float = 0.0
    store_zombie: float = 0.0
    outages: int = 0
    partitions: int = 0
    answer_lost: float = 0.0
    slow_calls: float = 0.0
    http_lost: float = 0.0
    load_fails: float = 0.0
    sent_twice: float = 0.0
    unreachable: float = 0.0
    clock_skew_s: float = 0.0
    coordinator_crashes: int = 0
    router_crashes: int = 0
    replica_crashes: int = 0
    node_losses: int = 0
    cluster_kills: int = 0
    cluster_stops: int = 0
    coordinator_pauses: int = 0
    machine_pauses: int = 0
    suspends: int = 0

    def drawn(self) -> dict[str, float]:
        """The faults that occur at all."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    def any_of(self, *names: str) -> bool:
        """Whether one of these occurs."""
        return any(getattr(self, name) for name in names)


CLASSES = [field.name for field in dataclasses.fields(Faults)]
"""All classes of faults, by name."""
STORE_FAULTS = ("slow_store", "store_fails", "store_late", "store_zombie", "outages", "partitions")
"""Those for which calls of the store may fail."""

Draw = Callable[[random.Random], Any]


def _one_of(*values: float) -> Draw:
    return lambda rng: rng.choice(values)


def draw_faults(seed: int, clusters: int, without: Collection[str]) -> Faults:
    """Some faults for a seed; each is drawn from a stream of its own, so that one can be left out and others stay."""
    several = clusters > 1
    chances: dict[str, tuple[float, Draw]] = {
        "slow_store": (0.5, _one_of(0.02, 0.1, 0.3)),
        "store_fails": (0.4, _one_of(0.005, 0.02, 0.08)),
        "store_late": (0.5, _one_of(0.005, 0.02, 0.08)),
        "store_own": (0.3, _one_of(0.02, 0.1)),
        "store_zombie": (0.4, _one_of(0.01, 0.03)),
        "outages": (0.4, _one_of(1, 2, 3)),
        "partitions": (0.4 if several else 0.0, _one_of(1, 2)),
        "answer_lost": (0.4, _one_of(0.01, 0.05)),
        "slow_calls": (0.5, _one_of(0.02, 0.1)),
        "http_lost": (0.5, _one_of(0.05, 0.2)),
        "load_fails": (0.2, _one_of(0.1, 0.3)),
        "sent_twice": (0.25, _one_of(0.05, 0.2)),
        "unreachable": (0.25, _one_of(0.05, 0.2)),
        "clock_skew_s": (0.4, _one_of(0.05, 1.0, 3.0)),
        "coordinator_crashes": (0.6, _one_of(1, 2, 4, 8)),
        "router_crashes": (0.3, _one_of(1, 3)),
        "replica_crashes": (0.5, _one_of(1, 3, 8)),
        "node_losses": (0.15, _one_of(1)),
        "cluster_kills": (0.4 if several else 0.25, _one_of(1)),
        "cluster_stops": (0.2, _one_of(1)),
        "coordinator_pauses": (0.4, _one_of(1, 2, 4)),
        "machine_pauses": (0.3 if several else 0.1, _one_of(1, 2)),
        "suspends": (0.4 if several else 0.1, _one_of(1, 2)),
    }
    faults = Faults()
    for name, (chance, draw) in chances.items():
        rng = random.Random(f"{seed}/fault/{name}")
        occurs, value = rng.random() < chance, draw(rng)
        if occurs and name not in without:
            setattr(faults, name, value)
    return faults
