"""A scheduler of runs on a store, with replicas that the test plays."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.errors import VersionNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmVersion, Device, LogLine, Manifest, Parameter, Run, RunRequest, RunStatus
from t3d_server.run_log import log_line
from t3d_server.run_store.events import Event, decode
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.segments import newest_snapshot
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.interface import AttemptKey, Lines, Outcome, QueueName, Receipt, ReportAnswer
from t3d_server.runs.live_run import latest_attempt
from t3d_server.runs.scheduler import RunScheduler
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS, segment_key
from t3d_server.storage.memory import MemoryObjectStore

LIMITS = RunLimits(max_run_s=60, cancel_grace_s=60, max_queued=100, max_queued_per_algorithm=100)
OUTPUT = "01890000-0000-7000-8000-000000000000"
OTHER_OUTPUT = "01890000-0000-7000-8000-000000000001"
DONE = Outcome(RunStatus.COMPLETED, (OUTPUT,))
NEVER_S = 3600.0
TIMINGS = Timings(
    store_retry_s=0.01,
    heartbeat_s=NEVER_S,
    announce_s=0.0,
    started_after_s=0.0,
    log_after_s=0.0,
    watch_s=0.01,
    kill_retry_s=0.01,
    call_retry_s=0.0,
    call_watch_s=0.01,
    cancel_s=NEVER_S,
    position_s=0.01,
    page_after_s=0.0,
    sweep_after_s=0.0,
    sweep_look_s=NEVER_S,
    expiry_s=NEVER_S,
)
"""All is due at once, but for what the test calls itself: heartbeats, looks at other clusters, and sweeps."""


def timings(**changes: Any) -> Timings:
    """`TIMINGS` with other values."""
    return dataclasses.replace(TIMINGS, **changes)


class Clock:
    """A clock that the test sets ahead; in between, seconds stand still."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return SYSTEM_CLOCK.now() + timedelta(seconds=self.ahead_s)

    def seconds(self) -> float:
        return self.ahead_s


class Replicas:
    """Calls of replicas that end when, and how, the test has them end."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[QueueName, str, asyncio.Future[None]]] = asyncio.Queue()
        self.open = 0
        self.hindered: str | None = None
        self.lacking: str | None = None
        self.gone: set[str] = set()
        self.killed: asyncio.Queue[str] = asyncio.Queue()
        self.looks = 0

    async def work(self, queue: QueueName, call_id: str) -> None:
        self.open += 1
        try:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await self.calls.put((queue, call_id, ended))
            await ended
        finally:
            self.open -= 1

    async def obstacle(self, queue: QueueName) -> str | None:
        return self.hindered

    async def shortage(self, queue: QueueName) -> str | None:
        self.looks += 1
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

    def __init__(self) -> None:
        self.refreshed = 0

    async def refresh(self) -> None:
        self.refreshed += 1

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        if version not in (None, self.manifest.version):
            raise VersionNotFoundError(f"no {version}")
        return AlgorithmVersion(manifest=self.manifest, source_sha256="0", module_sha256="0", assets={})


class Datasets:
    """The tags whose datasets were removed, and what was kept; nothing expires."""

    expires = False

    def __init__(self) -> None:
        self.tags: list[set[str]] = []
        self.kept: set[str] = set()

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        return 0

    def remove_expired_uploads(self, limit: int) -> int:
        return 0

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        self.tags.append(set(tags))
        self.kept |= set(but)


class Bench:
    """A scheduler on a store, with replicas that the test plays.

    Several on one store are one cluster that was started again, unless their `cluster` is another.
    """

    def __init__(
        self,
        store: ObjectStore | None = None,
        *,
        slots: int = 1,
        cluster: str = "one",
        limits: RunLimits = LIMITS,
        devices: Sequence[Device] = ("cpu",),
        keep_s: float | None = None,
        timings: Timings = TIMINGS,
    ) -> None:
        self.store = store or MemoryObjectStore()
        self.clock = Clock()
        self.history = RunHistory(self.store, keep_s=keep_s, clock=self.clock)
        self.replicas = Replicas()
        self.datasets = Datasets()
        self.versions = Versions()
        self.ended: list[Run] = []
        self.runs = RunScheduler(
            self.history,
            self.datasets,
            cluster=cluster,
            catalog=self.versions,
            replicas=self.replicas,
            devices=lambda: devices,
            slots=lambda manifest, device: slots,
            limits=limits,
            ended=self.ended.append,
            clock=self.clock,
            timings=timings,
        )

    async def start(self) -> Bench:
        """Start, or start again."""
        await self.runs.start()
        return self

    async def look(self) -> None:
        """Look at the other clusters once."""
        await self.runs._takeover.look()

    async def sweep(self) -> None:
        """Remove once what attempts have left that do not count."""
        self.clock.ahead_s += 0.01  # what is due is older than now
        await self.runs._expiry.sweep()

    async def compact(self) -> None:
        """Put ended runs into pages, and write a snapshot."""
        self.clock.ahead_s += 0.01
        await self.runs._compactor.step()
        await self.runs._compactor.snapshot()

    async def submit(self, run_id: str = "", key: str | None = None, **fields: Any) -> Run:
        await self.start()
        request = RunRequest(input_dataset_ids=[], **fields)
        return await self.runs.submit(algorithm="blur", request=request, run_id=run_id or new_id(), key=key)

    async def answer(self, replica: str = "r1") -> tuple[str, Run | None, asyncio.Future[None]]:
        """Play a replica that gets the next call and asks for a run."""
        _, call_id, ended = await self.replicas.calls.get()
        return call_id, await self.runs.begin(call_id=call_id, replica=replica), ended

    async def given(self, replica: str = "r1") -> tuple[str, Run, asyncio.Future[None]]:
        """The same, where there is a run."""
        call_id, run, ended = await self.answer(replica)
        assert run is not None
        return call_id, run, ended

    async def report(self, run: Run, progress: float | None = None, lines: Lines | None = None) -> ReportAnswer:
        """Play a replica that reports on the run that it was given."""
        return await self.runs.report(attempt=key_of(run), progress=progress, lines=lines or Lines())

    async def finish(self, call_id: str, run: Run, outcome: Outcome = DONE, lines: Lines | None = None) -> Receipt:
        """Play a replica that delivers the outcome of the run that it was given."""
        return await self.runs.finish(call_id=call_id, attempt=key_of(run), outcome=outcome, lines=lines or Lines())

    async def work(self, outcome: Outcome = DONE) -> list[str]:
        """Play a replica for the next call, from its begin to its end; the runs that it worked on."""
        call_id, run, ended = await self.answer()
        done = []
        while run is not None:
            done.append(run.id)
            run = (await self.finish(call_id, run, outcome)).following
        ended.set_result(None)
        return done

    async def get(self, run_id: str, wait_s: float = 0.0) -> Run:
        return await self.runs.get(run_id=run_id, wait_s=wait_s)

    async def ids(self) -> list[str]:
        """Ids of the runs that are listed."""
        return [run.id for run in (await self.runs.list(limit=100)).runs]

    async def messages(self, run_id: str) -> list[str]:
        """The log of a run, but for the line on the device that the cluster lacks."""
        return [line.message for line in await self.runs.log(run_id=run_id) if "no gpu" not in line.message]

    def state(self) -> State:
        """What is on record."""
        return on_record(self.store)

    def stored(self, run_id: str) -> StoredRun:
        """A run as it is on record."""
        stored = self.state().find(run_id)
        assert stored is not None
        return stored


def key_of(run: Run) -> AttemptKey:
    """The attempt that a replica was given."""
    key = latest_attempt(run)
    assert key is not None
    return key


def lines_of(*messages: str, first: int = 0, complete: bool = False) -> Lines:
    """Lines of an attempt as its replica sends them."""
    return Lines(first, [line_of(message) for message in messages], complete)


def line_of(message: str) -> LogLine:
    return log_line(message, "INFO", SYSTEM_CLOCK.now())


def on_record(store: ObjectStore) -> State:
    """The state that a store has."""
    newest = newest_snapshot(store)
    state = State() if newest is None else State.load(newest[1])
    for stat in store.list(RUN_EVENTS, start_after=segment_key(state.seq)):
        state.apply(*decode(read(store, stat.key)))
    return state


def events_of(store: ObjectStore) -> list[Event]:
    """All events in the segments that a store has."""
    return [event for stat in store.list(RUN_EVENTS) for event in decode(read(store, stat.key))[1]]


async def until(holds: Callable[[], object]) -> None:
    """Return once something holds of which no event tells, such as what a store has."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test in an event loop of its own, and not for ever."""

    @functools.wraps(test)
    def wrapper(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 30))

    return wrapper
