"""A replica's process: it loads, works by `execution.worker`, and dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from t3d_server.errors import ServerUnavailableError, StoreUnavailableError
from t3d_server.execution.executor import LoadedAlgorithm
from t3d_server.execution.worker import Worker
from t3d_server.models import LogLine, RunFailure
from t3d_server.runs.interface import QueueName
from t3d_server.runs.replica_calls import ReplicaGoneError
from tests.simulation.author import Author
from tests.simulation.processes import Process
from tests.simulation.remote import SimRuns
from tests.simulation.resources import Resources
from tests.simulation.threads import Job, ThreadCount

if TYPE_CHECKING:
    from tests.simulation.serve import Deployment, Request
    from tests.simulation.world import World


class ReplicaHost:
    """A replica.

    Args:
        world: the simulation.
        deployment: what it is a replica of.
        name: its name.

    Attributes:
        process: its process.
        worker: what works on runs; None while it loads.
        ongoing: the calls that it works on.
        idle_since_s: since when it has none.
    """

    def __init__(self, world: World, deployment: Deployment, name: str) -> None:
        self.name = name
        self.worker: Worker | None = None
        self.ongoing: dict[Request, None] = {}
        self.idle_since_s = world.loop.now_s
        self._world = world
        self._deployment = deployment
        cluster = deployment.cluster
        self.process = Process(world.loop, name, cluster.id, cluster.skew_s + world.skew_s())
        world.loop.later(world.rngs["serve"].uniform(0.3, 3.0), self._start)

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded, and is there."""
        return self.worker is not None and self.process.alive

    def die(self, text: str, *, notice_s: float | None = None) -> None:
        """Its process ends, as others notice after some time."""
        if not self.process.alive:
            return
        world, rng = self._world, self._world.rngs["serve"]
        world.trace("proc", f"{self.name} dies: {text}")
        if self.worker is None:
            self._deployment.failures += 1
        self.process.kill()
        self._deployment.replicas.pop(self.name, None)
        gone_after_s = rng.uniform(0.01, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 6.0)
        world.loop.later(gone_after_s, self._deployment.cluster.named.pop, self.name, None)
        for request in list(self.ongoing):
            after_s = notice_s or (rng.uniform(0.05, 1.5) if rng.random() < 0.8 else rng.uniform(1.5, 15.0))
            charged = "preempted" not in text and "scaled down" not in text
            request.end(ReplicaGoneError(f"its replica has ended: {text}", charged=charged), after_s)
        world.loop.later(rng.uniform(0.5, 2.5), self._deployment.pump)

    def _start(self) -> None:
        if self.process.alive:
            self.process.spawn(self._load())

    async def _load(self) -> None:
        world, deployment, rng = self._world, self._deployment, self._world.rngs["serve"]
        manifest, runs = deployment.manifest, SimRuns(deployment.cluster.actor)
        resources = Resources(world, self.process)
        if manifest.name == "broken" or rng.random() < world.faults.load_fails:
            if rng.random() < 0.5:
                queue = QueueName(manifest.name, manifest.version, "cpu")
                failure = RunFailure(code="load_failed", type="LoadFailedError", message="it cannot load")
                with contextlib.suppress(StoreUnavailableError, ServerUnavailableError):
                    await runs.load_failed(queue=queue, failure=failure)
            world.loop.later(0.0, self.die, "its process ended with the exit code 1")
            return
        lines = deque[LogLine]()
        if rng.random() < 0.3:
            lines.append(LogLine(time=resources.clock.now(), level="INFO", message=f"loaded {self.name[-6:]}"))
        package = SimpleNamespace(folder=Path("/nowhere"))
        module = SimpleNamespace(active=nullcontext)
        author = Author(world, self)
        algorithm = LoadedAlgorithm(manifest, cast(Any, package), cast(Any, module), cast(Any, author))
        self.worker = Worker(
            runs,
            self.name,
            algorithm,
            resources.datasets,
            executor=ThreadCount(manifest.runs_per_replica),
            clock=resources.clock,
            wait=self._wait,
            load_log=lines,
        )
        deployment.failures = 0
        self.idle_since_s = world.loop.now_s
        deployment.pump()

    def _wait(self, work: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """See `reporter.Wait`."""
        loop = self._world.loop
        job = loop.job
        assert job is not None

        def request(job: Job) -> None:
            is_over = False

            def over(_: object) -> None:
                nonlocal is_over
                if not is_over:
                    is_over = True
                    loop.later(0.0, job.step, None, None, process=job.process)

            task: asyncio.Task[None] = self.process.spawn(work)
            task.add_done_callback(over, context=self.process.context.copy())
            loop.later(timeout_s, over, None, process=job.process)

        job.block(request)
