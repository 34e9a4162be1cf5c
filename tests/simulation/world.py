"""One simulated world: its time, its store, its clusters, its faults, and what is checked."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection

from tests.simulation.author import publish_all
from tests.simulation.bucket import Bucket
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Faults, draw_faults
from tests.simulation.grants import Grants
from tests.simulation.incidents import Incidents
from tests.simulation.loop import SimLoop
from tests.simulation.observed import Observed
from tests.simulation.outages import Outages
from tests.simulation.plan import draw_plan
from tests.simulation.record import Record
from tests.simulation.violations import Findings

STREAMS = ("store", "calls", "serve", "clock", "clients", "http", "ids")
"""Each kind of chance has its own random numbers, so that one changes the others as little as may be."""


class World:
    """A world.

    Args:
        seed: gives everything that is left to chance.
        clusters: how many clusters begin; 0 leaves that to the seed.
        without: faults, and parts of plans, that are left out.
        traced: whether a trace is kept.

    Attributes:
        loop: the event loop.
        findings: violations, counts, trace.
        plan: what is simulated.
        drawn: the faults of the seed.
        faults: the faults at present; none at the beginning and at the end.
        is_faulty: whether incidents still happen.
        faults_end_s: when the faults have ended.
        is_over: whether clients are to stop.
        clusters: all clusters, also dead ones.
    """

    def __init__(self, seed: int, *, clusters: int = 0, without: Collection[str] = (), traced: bool = False) -> None:
        self.seed = seed
        self.loop = SimLoop()
        self.findings = Findings(self.loop, traced=traced)
        self.trace = self.findings.trace
        self.rngs = {name: random.Random(f"{seed}/{name}") for name in STREAMS}
        self.plan = draw_plan(seed, clusters, without)
        self.drawn = draw_faults(seed, self.plan.clusters, without)
        self.faults = Faults(clock_skew_s=self.drawn.clock_skew_s)
        self.is_faulty = True
        self.is_over = False
        self.faults_end_s = float("inf")
        self.bucket = Bucket()
        publish_all(self.bucket)
        self.outages = Outages(self.loop)
        self.record = Record(self.loop, self.bucket, self.findings, expires=self.plan.expires)
        self.grants = Grants(self)
        self.observed = Observed(self)
        self.incidents = Incidents(self)
        self.clusters: list[Cluster] = []
        self._numbers = itertools.count(1)

    def next_number(self) -> int:
        """Another number each time, for names."""
        return next(self._numbers)

    def skew_s(self) -> float:
        """How far the clock of a machine is wrong."""
        return self.rngs["clock"].uniform(-1, 1) * self.faults.clock_skew_s

    def latency_s(self) -> float:
        """How long a message between processes takes."""
        rng = self.rngs["calls"]
        return rng.uniform(0.01, 2.0) if rng.random() < self.faults.slow_calls else rng.uniform(0.0003, 0.003)

    def start_cluster(self, name: str) -> Cluster:
        """A cluster starts."""
        cluster = Cluster(self, name, len(self.clusters) + 1)
        self.clusters.append(cluster)
        return cluster

    def living(self) -> list[Cluster]:
        """The clusters that are not dead."""
        return [cluster for cluster in self.clusters if not cluster.is_dead]

    def begin_faults(self) -> None:
        """Faults happen from now on."""
        self.faults = self.drawn

    def end_faults(self) -> None:
        """No more faults happen; clocks stay wrong."""
        self.trace("world", "faults end")
        self.is_faulty = False
        self.faults = Faults(clock_skew_s=self.drawn.clock_skew_s)
        self.outages.clear()
        self.faults_end_s = self.loop.now_s
