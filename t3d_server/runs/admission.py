"""Who is let in: requests become runs where they are right, as many as may wait, and none of a closed version."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection
from typing import Protocol

from t3d_server.clock import Clock
from t3d_server.errors import QueueFullError, VersionNotFoundError
from t3d_server.models import AlgorithmVersion, Device, Run, RunRequest
from t3d_server.runs.acceptance import RunLimits, accept
from t3d_server.runs.live_run import LiveRun
from t3d_server.runs.queues import Queues

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


def key_hash(key: str | None) -> str:
    """What is kept of an idempotency key; "" for none."""
    return "" if key is None else hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()


class Admission:
    """Makes runs of requests.

    Args:
        catalog: finds published versions.
        devices: the devices that the cluster has.
        limits: what is allowed.
        queues: what waits.
        longest_s: for how long the longest of an algorithm's runs that go on is at work; 0 where none does.
        clock: the clock.
    """

    def __init__(
        self,
        catalog: Catalog,
        devices: Callable[[], Collection[Device]],
        limits: RunLimits,
        queues: Queues,
        longest_s: Callable[[str], float],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._devices = devices
        self._limits = limits
        self._queues = queues
        self._longest_s = longest_s
        self._clock = clock
        self._closed: set[tuple[str, str]] = set()
        self._arriving: Counter[str] = Counter()
        self._run_times_s: dict[str, float] = {}

    def check(self, algorithm: str, request: RunRequest, run_id: str) -> LiveRun:
        """The run that is asked for.

        Raises:
            T3dError: see `Runs.submit`.
        """
        manifest = self._catalog.find(algorithm, request.version).manifest
        if (manifest.name, manifest.version) in self._closed:
            raise VersionNotFoundError(f"{manifest.name} {manifest.version} is being removed")
        accepted, warnings = accept(
            manifest, request, self._devices(), run_id, self._limits.max_run_s, now=self._clock.now()
        )
        self._require_room(manifest.name)
        run = LiveRun(accepted, manifest, self._clock)
        for warning in warnings:
            run.note("WARNING", warning)
        return run

    def arriving(self, run: LiveRun) -> None:
        """A run that is being recorded takes its room; to be called in the step in which it was checked."""
        self._arriving[run.run.algorithm] += 1

    def arrived(self, run: LiveRun) -> None:
        """A run is on record, and takes its room in its queue; or it is known not to be."""
        self._arriving[run.run.algorithm] -= 1

    def close(self, algorithm: str, version: str) -> None:
        """Let no more runs of a version in."""
        self._closed.add((algorithm, version))

    def reopen(self, algorithm: str, version: str) -> None:
        """Let runs of a version in again."""
        self._closed.discard((algorithm, version))

    def has_ended(self, run: Run) -> None:
        """Learn from a run how long those of its algorithm take."""
        if run.started_at is not None and run.ended_at is not None:
            run_time_s = (run.ended_at - run.started_at).total_seconds()
            known_s = self._run_times_s.get(run.algorithm, run_time_s)
            self._run_times_s[run.algorithm] = known_s + _WEIGHT * (run_time_s - known_s)

    def _require_room(self, algorithm: str) -> None:
        of_algorithm = self._queues.count(algorithm) + self._arriving[algorithm]
        of_all = self._queues.count() + self._arriving.total()
        if of_algorithm >= self._limits.max_queued_per_algorithm:
            what = f"{of_algorithm} runs of {algorithm} wait, as many as may (T3D_MAX_QUEUED_RUNS_PER_ALGORITHM)"
        elif of_all >= self._limits.max_queued:
            what = f"{of_all} runs wait, as many as may (T3D_MAX_QUEUED_RUNS)"
        else:
            return
        run_time_s = self._run_times_s.get(algorithm) or max(UNKNOWN_RUN_S, self._longest_s(algorithm))
        one_begins_s = run_time_s / max(1, self._queues.slots(algorithm))
        retry_after_s = min(LONGEST_RETRY_S, max(1, math.ceil(one_begins_s)))
        raise QueueFullError(f"{what}; try again in a while", retry_after_s=retry_after_s)
