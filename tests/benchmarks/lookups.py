"""How long it takes to restart, and to list runs, where many are on record; for `bench_run_log`."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from t3d_server.api.listing import list_runs
from t3d_server.api.workers import Workers
from t3d_server.ids import new_id
from t3d_server.models import RunRequest, RunStatus
from t3d_server.run_store.history import RunHistory
from t3d_server.storage.base import ObjectStore
from tests.benchmarks.coordinators import Present
from tests.benchmarks.ended_runs import COMMON, EVERY_COMMON, EVERY_RARE, RARE

LIMIT = 50
SUBMITTED_AT_A_TIME = 500


def restart_s(store: ObjectStore) -> float:
    """Seconds from the start of a coordinator to the first run that a replica is given; it is killed then."""

    async def measure() -> float:
        served: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def work(call_id: str) -> None:
            run = await coordinator.begin(call_id, "replica")
            if run is not None and not served.done():
                served.set_result(time.perf_counter() - began)
            await asyncio.Future()

        began = time.perf_counter()
        coordinator = Present(store, work, announce_s=0.0)
        await coordinator.start()
        return await served

    return asyncio.run(measure())


def listings(store: ObjectStore, repeats: int) -> dict[str, float]:
    """Milliseconds for the newest ended runs of some kinds, by name.

    Cold is a router that has just started, or has to read a new snapshot: it has read nothing. Then it has the
    directory of pages, but no index of a page; then these, too.
    """
    kinds: dict[str, tuple[str | None, RunStatus | None]] = {
        f"1 in {EVERY_COMMON}": COMMON,
        f"1 in {EVERY_RARE}": RARE,
        "all": (None, None),
    }
    times: dict[str, list[float]] = {}

    async def measure() -> None:
        coordinator, workers = Present(store, _never), Workers()
        await coordinator.start()

        async def timed(name: str, history: RunHistory, kind: tuple[str | None, RunStatus | None]) -> None:
            with _timed(times.setdefault(name, [])):
                page = await list_runs(
                    coordinator.runs, history, workers, limit=LIMIT, cursor=None, algorithm=kind[0], status=kind[1]
                )
            assert len(page.runs) == LIMIT, (name, len(page.runs))

        for _ in range(repeats):
            for name, kind in kinds.items():
                history = RunHistory(store)
                await timed(f"{name}, cold", history, kind)
                history.pages._indexes.clear()
                await timed(f"{name}, directory read", history, kind)
                await timed(f"{name}, warm", history, kind)

    asyncio.run(measure())
    return _medians_ms(times)


def live_listings(store: ObjectStore, waiting: int, repeats: int) -> dict[str, float]:
    """Milliseconds for which the newest runs of many that wait hold up the event loop."""
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "that wait": {"status": RunStatus.PENDING},
        "that run": {"status": RunStatus.RUNNING},
    }
    times: dict[str, list[float]] = {name: [] for name in filters}

    async def measure() -> None:
        coordinator = Present(store, _never)
        await coordinator.start()
        for _ in range(0, waiting, SUBMITTED_AT_A_TIME):
            requests = [RunRequest(input_dataset_ids=[new_id()]) for _ in range(SUBMITTED_AT_A_TIME)]
            await asyncio.gather(*(coordinator.submit(request, new_id(), new_id()) for request in requests))
        for _ in range(repeats * 5):
            await asyncio.sleep(0.01)
            for name, what in filters.items():
                with _timed(times[name]):
                    found = await coordinator.runs.list(limit=LIMIT, **what)  # awaits nothing
                assert len(found.runs) == (LIMIT if name != "that run" else 0)

    asyncio.run(measure())
    return _medians_ms(times)


async def _never(_: str) -> None:
    await asyncio.Future()


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times.append(time.perf_counter() - began)


def _medians_ms(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(each) * 1000 for name, each in times.items()}
