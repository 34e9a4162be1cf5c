"""What a seed simulates, apart from its faults."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from t3d_server.run_store.timings import Timings
from t3d_server.runs.acceptance import RunLimits


@dataclass(frozen=True)
class Keeps:
    """How long what is kept, in seconds; None for ever."""

    datasets_s: float | None = None
    runs_s: float | None = None
    logs_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        clusters: how many clusters begin.
        expires: whether anything expires.
        removes: whether a version is removed.
        idle_s: replicas that have nothing to do end after that.
        submissions: how many runs are submitted.
        busy_s: in how long.
        keeps: how long what is kept.
        run_limits: limits of the clusters.
        timings: durations and sizes of the clusters.
    """

    clusters: int
    expires: bool
    removes: bool
    idle_s: float
    submissions: int
    busy_s: float
    keeps: Keeps
    run_limits: RunLimits
    timings: Timings


def draw_plan(seed: int, clusters: int, without: Collection[str]) -> Plan:
    """The plan of a seed.

    Args:
        seed: the seed.
        clusters: how many clusters; 0 leaves that to the seed.
        without: faults that are left out; `expiry` and `removal` name what plans may have.
    """
    rng = random.Random(f"{seed}/plan")
    drawn = rng.choice([1, 1, 2, 2, 3])
    expires = rng.random() < 0.3 and "expiry" not in without
    removes = rng.random() < 0.3 and "removal" not in without
    most = rng.choice([3, 6, 100])
    return Plan(
        clusters=clusters or drawn,
        expires=expires,
        removes=removes,
        idle_s=rng.choice([3.0, 10.0, 60.0]),
        submissions=rng.choice([6, 10, 16, 24]),
        busy_s=rng.choice([20.0, 40.0, 80.0]),
        keeps=Keeps(25.0, 40.0, 30.0) if expires else Keeps(),
        run_limits=RunLimits(
            max_run_s=60.0,
            cancel_grace_s=rng.choice([1.0, 3.0]),
            max_queued=2 * most,
            max_queued_per_algorithm=most,
        ),
        timings=Timings(
            snapshot_segments=rng.choice([5, 15, 40]),
            page_runs=rng.choice([2, 3, 5]),
            expiry_s=10.0,
            listing_s=30.0,
        ),
    )
