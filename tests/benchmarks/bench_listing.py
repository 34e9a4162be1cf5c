"""Times pages of runs, the start of a coordinator and a sweep beside many ended runs, on an embedded store.

    python -m tests.benchmarks.bench_listing [--runs 100000]

Writing the records takes minutes. Nothing of Ray or HTTP is in the times; the calls to the store are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from t3d_server.api.service import Limits, Service
from t3d_server.datasets.store import DatasetStore
from t3d_server.ids import first_id, new_id, time_of
from t3d_server.models import Run, RunStatus
from t3d_server.packages.registry import Registry
from t3d_server.runs.records import Record, RunRecords
from t3d_server.runs.sweep import LIMIT, Sweep
from t3d_server.storage.base import ObjectStat, ObjectStore
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3ObjectStore
from tests.runs.bench import Bench

WRITERS = 16
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

    def delete(self, key: str) -> None:
        self.calls["delete"] += 1
        self._store.delete(key)


class Idle:
    """A coordinator without live runs."""

    async def live_runs(self) -> list[Run]:
        return []


def an_ended_run(number: int, now: datetime) -> Record:
    """The run of that number, counted back from now."""
    run_id = first_id(now - timedelta(seconds=number * APART_S)) + new_id()[13:]
    run = Run(
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
    return Record.of(run, owner=new_id(), key="")


def write_runs(records: RunRecords, count: int) -> None:
    """Write ended runs, as a coordinator does, but for their logs."""
    now = datetime.now(UTC)

    def write(number: int) -> None:
        run = an_ended_run(number, now)
        records.end(run, [])
        records.file(run)

    began = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        for number, _ in enumerate(pool.map(write, range(count)), 1):
            if number % (count // 10) == 0:
                print(f"{number} runs written in {time.perf_counter() - began:.0f} s", flush=True)


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
        write_runs(RunRecords(bare), count)
        store = Counting(bare)
        datasets = DatasetStore(store, scratch=Path(folder), max_dataset_bytes=0)
        records = RunRecords(store)
        coordinator: Any = Idle()
        service = Service(datasets, Registry(store), records, store, coordinator, Path(folder), Limits(0, 0, 0.0))

        print(f"{count} ended runs; best of {REPEATS}")
        measure("the bare index: one listing of 1000 keys", lambda: asyncio.to_thread(_list_1000, store), store)
        measure("first page of 50", service.runs, store)
        deep = an_ended_run(count - count // 10, datetime.now(UTC)).id
        measure("a page of 50 after nine tenths of all", lambda: service.runs(cursor=deep), store)
        measure("first page, status FAILED", lambda: service.runs(status=RunStatus.FAILED), store)
        measure("first page, a rare algorithm", lambda: service.runs(algorithm="rare"), store)
        measure("first page, an algorithm that never ran", lambda: service.runs(algorithm="nobody"), store)

        async def all_rare() -> int:
            found, cursor = 0, None
            while True:
                page = await service.runs(algorithm="rare", cursor=cursor)
                found, cursor = found + len(page.runs), page.next_cursor
                if cursor is None:
                    return found

        print(f"{measure('every page of the rare algorithm', all_rare, store, 1)} runs of it were found")
        measure("start of a coordinator", Bench(store).recover, store, 1)
        expiring = RunRecords(store, keep_s=(count - LIMIT / 2) * APART_S)
        measure("a sweep that finds little", Sweep(expiring, datasets, list).once, store, 1)
        expiring = RunRecords(store, keep_s=(count - LIMIT * 3) * APART_S)
        measure(f"a sweep that removes {LIMIT} runs", Sweep(expiring, datasets, list).once, store, 1)


def _list_1000(store: Counting) -> None:
    for _, _ in zip(range(1000), store.list("runs/index/"), strict=False):
        pass


if __name__ == "__main__":
    main()
