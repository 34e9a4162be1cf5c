"""The author's code in simulations: what it does, the args of a run say. And the algorithms that are published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from t3d_server.execution.context import RunContext
from t3d_server.models import AlgorithmVersion, Manifest, Parameter
from t3d_server.packages.registry import Registry
from t3d_server.runs.interface import AttemptKey
from t3d_server.storage.base import read
from t3d_server.storage.memory import MemoryObjectStore
from tests.simulation.bucket import Bucket
from tests.simulation.clocks import BASE
from tests.simulation.resources import Anything

if TYPE_CHECKING:
    from tests.simulation.replica import ReplicaHost
    from tests.simulation.world import World

FOREVER_S = 10_000.0
ALGORITHMS = {"quick": (2, 1), "shared": (1, 3), "single": (1, 1), "broken": (1, 1), "doomed": (2, 1)}
"""Most replicas, and runs of each, by name. None of `broken` can load; `doomed` is removed, in some simulations."""


def publish_all(bucket: Bucket) -> None:
    """Put all algorithms into a bucket."""
    memory = MemoryObjectStore()
    registry = Registry(memory)
    for name, (replicas, runs_per_replica) in ALGORITHMS.items():
        manifest = Manifest(
            name=name,
            version="1.0.0",
            additional_parameters=[Parameter(name="spec", description="", type="string", default="")],
            max_replicas=replicas,
            runs_per_replica=runs_per_replica,
        )
        registry.publish(
            AlgorithmVersion(manifest=manifest, source_sha256=name, module_sha256=name, assets={}, proven=["cpu"])
        )
    for stat in memory.list(""):
        bucket.put(stat.key, read(memory, stat.key), BASE, if_absent=False, by="outside")


class Author:
    """A runner.

    Args:
        world: the simulation.
        replica: where it works.
    """

    _context: RunContext

    def __init__(self, world: World, replica: ReplicaHost) -> None:
        self._world = world
        self._replica = replica

    def __copy__(self) -> Author:
        return Author(self._world, self._replica)

    def _attach(self, context: RunContext) -> None:
        self._context = context

    def run(self, input_data: dict[str, Any], args: dict[str, Any]) -> list[str]:
        """Do what `args["spec"]` says; see `Clients`."""
        spec, context = json.loads(args["spec"]), self._context
        attempt: AttemptKey = context._listener._attempt  # type: ignore[attr-defined]
        self._world.grants.began(attempt)
        with context.phase("preprocess"):
            context.fetch(input_data["input_dataset_ids"], Anything, parallel=False)
        steps = max(1, spec["steps"])
        posted: list[str] = []
        lines = 0
        for step in range(steps):
            for _ in range(spec["lines"]):
                lines += 1
                text = f"line {attempt.number} {attempt.replica[-6:]} {lines}"
                self._world.grants.logged(attempt, text)
                context.log(text, "INFO")
            if spec["stuck"] and step == steps // 2:
                self._sleep(FOREVER_S)
            if attempt.number <= spec["dies"] and step == steps // 2:
                self._world.loop.later(0.0, self._replica.die, "its process ended with the exit code 7")
                self._sleep(FOREVER_S)
            self._sleep(spec["for_s"] / steps)
            if spec["calls_back"]:
                context.progress((step + 1) / steps)
            if spec["early"] and step == 0:
                posted += context.post([{"value": 0}], Anything)
        if spec["raises"]:
            raise ValueError("the author's mistake")
        posted += context.post([{"value": index} for index in range(spec["posts"])], Anything)
        return posted[: spec["keeps"]]

    def _sleep(self, for_s: float) -> None:
        loop = self._world.loop
        assert loop.job is not None
        loop.job.block(lambda job: loop.later(for_s, job.step, None, None, process=job.process))
