"""A scheduler on a bucket of the former layout."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from datetime import datetime

from t3d_server.errors import RunNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmVersion, LogLine, Manifest, Parameter, Run, RunRequest, RunStatus
from t3d_server.run_store.history import RunHistory
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.interface import AttemptKey, Lines, Outcome, QueueName
from t3d_server.runs.scheduler import RunScheduler
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.memory import MemoryObjectStore
from tests.run_store.former.bench import TIMINGS, Clock, expected


class Catalog:
    """A catalog of all algorithms."""

    async def refresh(self) -> None:
        pass

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        manifest = Manifest(
            name=name,
            version="1.0.0",
            additional_parameters=[Parameter(name="sigma", description="width", type="float", default=1.0)],
        )
        return AlgorithmVersion(manifest=manifest, source_sha256="0", module_sha256="0", assets={})


class Datasets:
    """Datasets, of which none expire; the tags whose outputs were removed."""

    expires = False

    def __init__(self) -> None:
        self.swept: set[str] = set()

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        return 0

    def remove_expired_uploads(self, limit: int) -> int:
        return 0

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        self.swept |= set(tags)


class Server:
    """A scheduler whose replicas complete each run at once, and are those of the former server no more."""

    def __init__(self, store: ObjectStore, cluster: str = "new", *, keep_s: float | None = None) -> None:
        self.clock = Clock()
        self.executed: Counter[str] = Counter()
        self.datasets = Datasets()
        self.history = RunHistory(store, keep_s=keep_s, clock=self.clock)
        self.scheduler = RunScheduler(
            self.history,
            self.datasets,
            cluster=cluster,
            catalog=Catalog(),
            replicas=self,
            devices=lambda: ["cpu"],
            slots=lambda manifest, device: 1,
            limits=RunLimits(max_run_s=60, cancel_grace_s=60, max_queued=100, max_queued_per_algorithm=100),
            clock=self.clock,
            timings=TIMINGS,
        )

    async def work(self, queue: QueueName, call_id: str) -> None:
        run = await self.scheduler.begin(call_id=call_id, replica="mine")
        while run is not None:
            self.executed[run.id] += 1
            attempt = AttemptKey(run.id, run.attempts, "mine")
            receipt = await self.scheduler.finish(
                call_id=call_id, attempt=attempt, outcome=Outcome(RunStatus.COMPLETED), lines=Lines()
            )
            run = receipt.following

    async def obstacle(self, queue: QueueName) -> str | None:
        return None

    async def shortage(self, queue: QueueName) -> str | None:
        return None

    async def is_gone(self, replica: str) -> bool:
        return replica != "mine"

    async def kill(self, replica: str) -> None:
        pass

    async def submit(self, number: int, algorithm: str, key: str | None = None) -> Run:
        request = RunRequest(input_dataset_ids=[], args={"sigma": float(number)}, device="cpu")
        return await self.scheduler.submit(algorithm=algorithm, request=request, run_id=new_id(), key=key)

    async def find(self, run_id: str) -> Run:
        """A run as a client finds it."""
        try:
            return await self.scheduler.get(run_id=run_id)
        except RunNotFoundError:
            return (await asyncio.to_thread(self.history.find, run_id)).run

    async def log(self, run_id: str) -> list[LogLine]:
        try:
            return await self.scheduler.log(run_id=run_id)
        except RunNotFoundError:
            return self.history.log(await asyncio.to_thread(self.history.find, run_id))

    async def imported(self, store: MemoryObjectStore) -> None:
        """Return once nothing of the former layout is left; time passes meanwhile."""
        while next(iter(MemoryObjectStore.list(store, "coordinator/")), None) is not None:
            self.clock.passed_s += 1.0
            await asyncio.sleep(0.01)


async def assert_found(server: Server) -> None:
    """Ended runs are found by their ids, and their logs."""
    for run_id, stored in expected(()).items():
        assert await server.find(run_id) == stored.run
        assert await server.log(run_id) == stored.lines
