"""Coordinators in process, as the load of the benchmark drives them, and what they are given instead of a cluster.

One is the scheduler of this version. One is that of the version before the log of runs, for which `PYTHONPATH` has to
name a checkout: nothing here may need more of `t3d_server` than both have, but for the class of each. And one does
nothing, so that what the load itself takes can be measured.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Protocol

from t3d_server.errors import VersionNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmVersion, LogLine, Manifest, Parameter, RunRequest, RunStatus
from t3d_server.runs.acceptance import RunLimits
from t3d_server.storage.base import ObjectStore

ALGORITHM = "denoise"
CLUSTER = "bench"
LIMITS = RunLimits(max_run_s=600, cancel_grace_s=60, max_queued=100_000, max_queued_per_algorithm=100_000)
SLOTS = 64
STORE_THREADS = 16
"""As in the coordinator's process; the former one had the threads of its event loop."""
WAIT_S = 60.0

Work = Callable[[str], Awaitable[None]]


class Catalog:
    """One algorithm."""

    manifest = Manifest(
        name=ALGORITHM,
        version="1.0.0",
        supported_devices=["cpu"],
        default_device="cpu",
        additional_parameters=[Parameter(name="strength", description="how much", type="float", default=0.8)],
    )

    async def refresh(self) -> None:
        pass

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        if (name, version or "1.0.0") != (ALGORITHM, "1.0.0"):
            raise VersionNotFoundError(f"no {name} {version}")
        return AlgorithmVersion(manifest=self.manifest, source_sha256="0", module_sha256="0", assets={})


class Datasets:
    """Nothing is removed."""

    expires = False

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        return 0

    def remove_expired_uploads(self, limit: int) -> int:
        return 0

    def remove_tagged(self, *_: object, **__: object) -> None:
        pass


class Replicas:
    """Calls on replicas that are played.

    Args:
        work: what a replica does that gets a call, by its id.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    async def work(self, _: object, call_id: str) -> None:
        await self._work(call_id)

    async def obstacle(self, _: object) -> str | None:
        return None

    async def shortage(self, _: object) -> str | None:
        return None

    async def is_gone(self, _: str) -> bool:
        return False

    async def kill(self, replica: str) -> None:
        raise AssertionError(replica)


class Coordinator(Protocol):
    """What the load needs. A run is whatever `begin` gives; it has an `id`."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Return once everything about the runs that have ended is stored and cleaned up."""

    async def settle(self) -> None:
        """Return once no more than a page of ended runs is left in memory."""

    async def submit(self, request: RunRequest, run_id: str, key: str) -> None: ...

    async def wait(self, run_id: str) -> None: ...

    async def begin(self, call_id: str, replica: str) -> Any: ...

    async def finish(self, call_id: str, run: Any, output: str, lines: Sequence[LogLine]) -> Any:
        """Deliver an outcome; gives the next run."""


class Present:
    """The scheduler of this version.

    Args:
        store: where its log is.
        work: what replicas do.
        timings: what is to be as it is not by default.
    """

    def __init__(self, store: ObjectStore, work: Work, **timings: float) -> None:
        interface = import_module("t3d_server.runs.interface")
        self._outcome, self._lines = interface.Outcome, interface.Lines
        self._key: Callable[[Any], Any] = import_module("t3d_server.runs.live_run").latest_attempt
        self._timings = dataclasses.replace(import_module("t3d_server.run_store.timings").Timings(), **timings)
        self._threads = ThreadPoolExecutor(STORE_THREADS)
        self.history = import_module("t3d_server.run_store.history").RunHistory(store)
        self.runs = import_module("t3d_server.runs.scheduler").RunScheduler(
            self.history,
            Datasets(),
            cluster=CLUSTER,
            catalog=Catalog(),
            replicas=Replicas(work),
            devices=lambda: ["cpu"],
            slots=lambda manifest, device: SLOTS,
            limits=LIMITS,
            executor=self._threads,
            timings=self._timings,
        )

    async def start(self) -> None:
        await self.runs.start()

    async def stop(self) -> None:
        await self.runs.release()

    async def settle(self) -> None:
        state = self.runs._log.state
        while len(state.ended) >= self._timings.page_runs or state.recent:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.1)

    async def submit(self, request: RunRequest, run_id: str, key: str) -> None:
        await self.runs.submit(algorithm=ALGORITHM, request=request, run_id=run_id, key=key)

    async def wait(self, run_id: str) -> None:
        while not (await self.runs.get(run_id=run_id, wait_s=WAIT_S)).status.ended:
            pass

    async def begin(self, call_id: str, replica: str) -> Any:
        return await self.runs.begin(call_id=call_id, replica=replica)

    async def finish(self, call_id: str, run: Any, output: str, lines: Sequence[LogLine]) -> Any:
        outcome = self._outcome(RunStatus.COMPLETED, (output,))
        delivered = await self.runs.finish(
            call_id=call_id, attempt=self._key(run), outcome=outcome, lines=self._lines(0, lines)
        )
        return delivered.following


class Former:
    """The coordinator of the version before the log of runs; arguments as of `Present`."""

    def __init__(self, store: ObjectStore, work: Work, **_: float) -> None:
        self._outcome = import_module("t3d_server.runs.executor").Outcome
        self._key: Callable[[Any], Any] = import_module("t3d_server.runs.attempts").latest
        self.runs = import_module("t3d_server.runs.coordinator").Coordinator(
            import_module("t3d_server.runs.records").RunRecords(store),
            Datasets(),
            import_module("t3d_server.runs.ownership").Ownership(store, CLUSTER),
            Catalog(),
            Replicas(work),
            lambda: ["cpu"],
            lambda manifest, device: SLOTS,
            LIMITS,
        )

    async def start(self) -> None:
        await self.runs.recover()

    async def stop(self) -> None:
        while self.runs.live_runs():  # noqa: ASYNC110  # no event tells when those that have ended are filed
            await asyncio.sleep(0.01)
        await self.runs.release()

    async def settle(self) -> None:
        pass

    async def submit(self, request: RunRequest, run_id: str, key: str) -> None:
        await self.runs.submit(ALGORITHM, request, run_id, key)

    async def wait(self, run_id: str) -> None:
        while not (await self.runs.get(run_id, WAIT_S)).status.ended:
            pass

    async def begin(self, call_id: str, replica: str) -> Any:
        return self.runs.begin(call_id, replica)

    async def finish(self, call_id: str, run: Any, output: str, lines: Sequence[LogLine]) -> Any:
        outcome = self._outcome(RunStatus.COMPLETED, (output,))
        return (await self.runs.finish(call_id, self._key(run), outcome, lines)).following


@dataclasses.dataclass
class _Id:
    id: str


class Nothing:
    """Hands runs from clients to replicas and back; arguments as of `Present`."""

    def __init__(self, store: ObjectStore, work: Work, **_: float) -> None:
        self._work = work
        self._waiting: asyncio.Queue[_Id] = asyncio.Queue()
        self._ended: dict[str, asyncio.Future[None]] = {}
        self._replicas: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        async def serve() -> None:
            while True:
                await self._work(new_id())

        self._replicas = [asyncio.create_task(serve()) for _ in range(SLOTS)]

    async def stop(self) -> None:
        for replica in self._replicas:
            replica.cancel()

    async def settle(self) -> None:
        pass

    async def submit(self, request: RunRequest, run_id: str, key: str) -> None:
        self._ended[run_id] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Id(run_id))

    async def wait(self, run_id: str) -> None:
        await self._ended[run_id]
        del self._ended[run_id]

    async def begin(self, call_id: str, replica: str) -> Any:
        return await self._waiting.get()

    async def finish(self, call_id: str, run: Any, output: str, lines: Sequence[LogLine]) -> Any:
        self._ended[run.id].set_result(None)


COORDINATORS: dict[str, Callable[..., Coordinator]] = {
    "present": Present,
    "former": Former,
    "none": Nothing,
}
