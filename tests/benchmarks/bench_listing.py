"""Times listings of runs, the start of the log and the removal of runs beside many ended ones, on an embedded store.

    python -m tests.benchmarks.bench_listing [--runs 100000]

Nothing of Ray or HTTP is in the times; the calls to the store are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from t3d_server.api.service import Limits, Service
from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.datasets.store import DatasetStore
from t3d_server.ids import first_id, new_id, time_of
from t3d_server.models import Run, RunStatus
from t3d_server.packages.registry import Registry
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import PageInfo
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.pages import write_page
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.runs.expiry import Expiry
from t3d_server.runs.interface import RunList
from t3d_server.storage.base import ObjectStat, ObjectStore
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.keys import snapshot_key
from t3d_server.storage.s3 import S3ObjectStore

TIMINGS = Timings()
EVERY_RARE = 10_000
"""One run in so many is of the algorithm `rare`."""
APART_S = 60
REPEATS = 5


class Counting:
    """A store whose calls are counted; of listings also the keys."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()

    def prepare(self) -> None:
        self._store.prepare()

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        self.calls["put"] += 1
        self._store.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        self.calls["get"] += 1
        return self._store.get(key, offset=offset, length=length)

    def stat(self, key: str) -> ObjectStat:
        self.calls["stat"] += 1
        return self._store.stat(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        self.calls["list"] += 1
        for stat in self._store.list(prefix, start_after=start_after):
            self.calls["keys"] += 1
            yield stat

    def delete(self, *keys: str) -> None:
        self.calls["delete"] += len(keys)
        self._store.delete(*keys)


class Idle:
    """A coordinator without runs."""

    async def list(self, **asked: object) -> RunList:
        return RunList(runs=[], more=False, snapshot_seq=0)


def an_ended_run(number: int, now: datetime) -> Run:
    """The run of that number, counted back from now."""
    run_id = first_id(now - timedelta(seconds=number * APART_S)) + new_id()[13:]
    return Run(
        id=run_id,
        algorithm="rare" if number % EVERY_RARE == EVERY_RARE - 1 else f"algorithm-{number % 9}",
        version="1.0.0",
        resolved_device="cpu",
        status=RunStatus.FAILED if number % 50 == 0 else RunStatus.COMPLETED,
        progress=1.0,
        message="done",
        input_dataset_ids=[new_id()],
        output_dataset_ids=[new_id()],
        args={"method": "nl_means", "strength": 1.0},
        created_at=time_of(run_id),
        started_at=time_of(run_id),
        ended_at=time_of(run_id),
        attempts=1,
    )


def write_runs(store: ObjectStore, count: int) -> None:
    """Write ended runs in pages, and the snapshot that has their directory."""
    now = datetime.now(UTC)
    pages: list[PageInfo] = []
    began = time.perf_counter()
    for first in range(0, count, TIMINGS.page_runs):
        numbers = range(first, min(first + TIMINGS.page_runs, count))
        pages.append(write_page(store, [StoredRun(run=an_ended_run(number, now)) for number in numbers]))
    store.put(snapshot_key(0), State(pages={page.name: page for page in pages}).dump())
    print(f"{count} runs written in {time.perf_counter() - began:.0f} s", flush=True)


@asynccontextmanager
async def started(store: ObjectStore) -> AsyncIterator[EventLog]:
    """The log as a coordinator has it that has just started."""
    log = EventLog(store, new_id(), clock=SYSTEM_CLOCK, executor=None, timings=TIMINGS, fenced=lambda: None)
    await log.start()
    try:
        yield log
    finally:
        await log.leave()


def measure(what: str, call: Callable[[], Awaitable[object]], store: Counting, repeats: int = REPEATS) -> Any:
    """Print the best time of a call and what it asked of the store; returns what the last one gave."""
    times_s = []
    for _ in range(repeats):
        store.calls.clear()
        began = time.perf_counter()
        given = asyncio.run(_awaited(call))
        times_s.append(time.perf_counter() - began)
    calls = ", ".join(f"{count} {name}" for name, count in sorted(store.calls.items()))
    print(f"{what:48} {min(times_s) * 1000:8.0f} ms   {calls}", flush=True)
    return given


async def _awaited(call: Callable[[], Awaitable[object]]) -> object:
    return await call()


def main() -> None:
    """Write the runs and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder) / "store", bucket="bench") as embedded:
        bare = S3ObjectStore(embedded.location)
        write_runs(bare, count)
        store = Counting(bare)
        datasets = DatasetStore(store, scratch=Path(folder), max_dataset_bytes=0)
        history = RunHistory(store)
        nobody: Any = Idle()
        service = Service(
            datasets=datasets,
            registry=Registry(store),
            history=history,
            store=store,
            runs=nobody,
            publishing=nobody,
            scratch=Path(folder),
            limits=Limits(0, 0, 0.0),
        )
        print(f"{count} ended runs; best of {REPEATS}")
        measure("first page of 50, of a router that just started", service.list_runs, store, 1)
        measure("first page of 50", service.list_runs, store)
        deep = an_ended_run(count - count // 10, datetime.now(UTC)).id
        measure("a page of 50 after nine tenths of all", lambda: service.list_runs(cursor=deep), store)
        measure("first page, status FAILED", lambda: service.list_runs(status=RunStatus.FAILED), store)
        measure("first page, a rare algorithm", lambda: service.list_runs(algorithm="rare"), store)
        measure("first page, an algorithm that never ran", lambda: service.list_runs(algorithm="nobody"), store)

        async def all_rare() -> int:
            found, cursor = 0, None
            while True:
                page = await service.list_runs(algorithm="rare", cursor=cursor)
                found, cursor = found + len(page.runs), page.next_cursor
                if cursor is None:
                    return found

        print(f"{measure('every page of the rare algorithm', all_rare, store, 1)} runs of it were found")

        async def start() -> None:
            async with started(store):
                pass

        measure("start and stop of the log", start, store, 1)
        for share in (0.99, 0.5):

            async def expire(keep_s: float = share * count * APART_S) -> None:
                async with started(store) as log:
                    expiring = RunHistory(store, keep_s=keep_s)
                    compactor = Compactor(log, store, clock=SYSTEM_CLOCK, timings=TIMINGS)
                    expiry = Expiry(log, expiring, datasets, nobody, compactor, clock=SYSTEM_CLOCK, timings=TIMINGS)
                    await expiry.remove_expired()

            measure(f"removal of all but {share:.0%} of the runs", expire, store, 1)


if __name__ == "__main__":
    main()
