"""A coordinator on a store, with replicas that the test plays."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Any

from t3d_server.errors import StoreUnavailableError, VersionNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmVersion, Manifest, Parameter, Run, RunRequest, RunStatus
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.attempts import AttemptKey, latest
from t3d_server.runs.coordinator import Coordinator
from t3d_server.runs.executor import Outcome
from t3d_server.runs.grants import Receipt
from t3d_server.runs.lanes import Lane
from t3d_server.runs.ownership import Ownership
from t3d_server.runs.records import RunRecords
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.memory import MemoryObjectStore

LIMITS = RunLimits(max_run_s=60, cancel_grace_s=60, max_queued=100, max_queued_per_algorithm=100)
DONE = Outcome(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000000",))


class Replicas:
    """A dispatcher whose calls end when, and how, the test says."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[Lane, str, asyncio.Future[None]]] = asyncio.Queue()
        self.open = 0
        self.hindered: str | None = None
        self.lacking: str | None = None
        self.gone: set[str] = set()
        self.killed: asyncio.Queue[str] = asyncio.Queue()

    async def work(self, lane: Lane, call_id: str) -> None:
        self.open += 1
        try:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await self.calls.put((lane, call_id, ended))
            await ended
        finally:
            self.open -= 1

    async def obstacle(self, lane: Lane) -> str | None:
        return self.hindered

    async def shortage(self, lane: Lane) -> str | None:
        return self.lacking

    async def is_gone(self, replica: str) -> bool:
        return replica in self.gone

    async def kill(self, replica: str) -> None:
        await self.killed.put(replica)


class Versions:
    """A catalog of one algorithm."""

    manifest = Manifest(
        name="blur",
        version="1.0.0",
        supported_devices=["cpu", "gpu"],
        default_device="gpu",
        additional_parameters=[Parameter(name="sigma", description="width", type="float", default=1.0)],
    )

    async def refresh(self) -> None:
        pass

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        if version not in (None, "1.0.0"):
            raise VersionNotFoundError(f"no {version}")
        return AlgorithmVersion(manifest=self.manifest, source_sha256="0", module_sha256="0", assets={})


class Sweeps:
    """The tags whose outputs were removed, and what was kept."""

    def __init__(self) -> None:
        self.tags: list[set[str]] = []
        self.kept: set[str] = set()

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        self.tags.append(set(tags))
        self.kept |= set(but)


class FailingStore(MemoryObjectStore):
    """A store that is down while `down` is set."""

    down = False

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
        if self.down:
            raise StoreUnavailableError("the store is down")
        super().put(key, data, if_absent=if_absent)


class Bench:
    """A coordinator on a store, with replicas that the test plays.

    Several on one store are one cluster that was started again, unless their `cluster` says otherwise.
    """

    def __init__(
        self,
        store: ObjectStore | None = None,
        slots: int = 1,
        cluster: str = "one",
        limits: RunLimits = LIMITS,
    ) -> None:
        self.store = store or MemoryObjectStore()
        self.records = RunRecords(self.store)
        self.replicas = Replicas()
        self.sweeps = Sweeps()
        self.clock = 0.0
        self.coordinator = Coordinator(
            self.records,
            self.sweeps,
            Ownership(self.store, cluster, lambda: self.clock),
            Versions(),
            self.replicas,
            lambda: ["cpu"],
            lambda manifest, device: slots,
            limits,
        )
        self.recovered = False

    async def recover(self) -> None:
        """Start, or start again."""
        await self.coordinator.recover()
        self.recovered = True

    async def submit(self, run_id: str = "", key: str | None = None, **fields: Any) -> Run:
        if not self.recovered:
            await self.recover()
        request = RunRequest(input_dataset_ids=[], **fields)
        return await self.coordinator.submit("blur", request, run_id or new_id(), key)

    async def answer(self, replica: str = "r1") -> tuple[str, Run | None, asyncio.Future[None]]:
        """Play a replica that gets the next call and asks for a run."""
        _, call_id, ended = await self.replicas.calls.get()
        return call_id, self.coordinator.begin(call_id, replica), ended

    async def finish(self, call_id: str, run: Run, outcome: Outcome = DONE) -> Receipt:
        """Play a replica that delivers the outcome of the run that it was given."""
        return await self.coordinator.finish(call_id, key_of(run), outcome, [])

    async def work(self, outcome: Outcome = DONE) -> list[str]:
        """Play a replica for the next call, from its begin to the end of its shift; the runs it worked on."""
        call_id, run, ended = await self.answer()
        done = []
        while run is not None:
            done.append(run.id)
            run = (await self.finish(call_id, run, outcome)).following
        ended.set_result(None)
        return done


def key_of(run: Run) -> AttemptKey:
    """The attempt that a replica was given."""
    key = latest(run)
    assert key is not None
    return key


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test in an event loop of its own, and not for ever."""

    @functools.wraps(test)
    def wrapper(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 100))

    return wrapper
