"""The log stays short, whatever step a crash comes between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.models import RunStatus
from t3d_server.run_store.timings import Timings
from t3d_server.storage.keys import RUN_EVENTS, RUN_PAGES, RUN_SNAPSHOTS
from t3d_server.storage.memory import MemoryObjectStore
from tests.run_store.stores import FaultyStore
from tests.runs.bench import Bench, in_loop, timings, until

PAGED = timings(page_runs=2)


def count(store: MemoryObjectStore, folder: str) -> int:
    return len(list(store.list(folder)))


@in_loop
async def test_a_snapshot_stands_for_the_segments_before_it() -> None:
    bench = Bench(store := MemoryObjectStore())
    runs = [await bench.submit() for _ in range(5)]
    state = bench.state().dump()
    for _ in range(2):
        await bench.compact()
        assert bench.state().dump() == state
        assert (count(store, RUN_EVENTS), count(store, RUN_SNAPSHOTS)) == (1, 1)  # the latest segment stays
    assert await (await Bench(store).start()).work() == [run.id for run in runs]


@pytest.mark.parametrize("due", [timings(snapshot_segments=5), timings(snapshot_bytes=1000)])
@in_loop
async def test_a_snapshot_is_written_after_so_many_segments_or_bytes(due: Timings) -> None:
    bench = Bench(store := MemoryObjectStore(), timings=due)
    for _ in range(6):
        await bench.submit()
    await until(lambda: count(store, RUN_SNAPSHOTS))


@in_loop
async def test_runs_that_have_ended_go_into_pages_and_open_ones_stay() -> None:
    bench = Bench(store := MemoryObjectStore(), timings=PAGED)
    ended = [await bench.submit(key=str(number)) for number in range(5)]
    await bench.work()
    waiting = await bench.submit()
    await bench.compact()
    state = bench.state()
    assert (count(store, RUN_PAGES), len(state.pages), list(state.open)) == (2, 2, [waiting.id])
    assert list(state.ended) == [ended[-1].id]
    assert [(await bench.submit(key=str(number))).id for number in range(5)] == [run.id for run in ended]
    assert bench.history.find(ended[0].id).run.status is RunStatus.COMPLETED


@in_loop
async def test_runs_that_have_just_ended_wait_for_their_page() -> None:
    """They are read by clients that wait for them, and delivered again by replicas."""
    bench = Bench(store := MemoryObjectStore(), timings=timings(page_runs=1, page_after_s=30.0))
    await bench.submit()
    await bench.work()
    await bench.compact()
    assert count(store, RUN_PAGES) == 0
    bench.clock.ahead_s += 31
    await bench.compact()
    assert count(store, RUN_PAGES) == 1


@in_loop
async def test_two_clusters_put_each_run_into_one_page() -> None:
    one = Bench(store := MemoryObjectStore(), cluster="one", timings=PAGED)
    two = await Bench(store, cluster="two", timings=PAGED).start()
    for _ in range(2):
        await one.submit()
    await one.work()
    await two.look()
    await asyncio.gather(one.compact(), two.compact())
    state = one.state()
    assert (len(state.pages), state.ended) == (1, {})
    assert count(store, RUN_PAGES) == 1
    assert state.dump() == two.state().dump()


@pytest.mark.parametrize("fails", ["runs/pages/", "runs/log/", "runs/snapshots/"])
@pytest.mark.parametrize("applied", [True, False])
@in_loop
async def test_no_run_is_lost_where_a_step_fails_and_the_coordinator_dies(fails: str, applied: bool) -> None:
    class Store(FaultyStore):
        armed = False

        def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
            doomed = self.armed and key.startswith(fails)
            if not doomed or applied:
                super().put(key, data, if_absent=if_absent)
            if doomed:
                self.down = True
                raise StoreUnavailableError("the process dies here")

    bench = Bench(store := Store(), timings=PAGED)
    runs = [await bench.submit(key=new_id()) for _ in range(2)]
    await bench.work()
    store.armed = True
    compacting = asyncio.create_task(bench.compact())
    await until(lambda: store.down)
    compacting.cancel()
    store.armed = store.down = False
    after = await Bench(store, timings=PAGED).start()
    await after.compact()
    for run in runs:
        assert (await after.submit(run.id)).status is RunStatus.COMPLETED
        assert after.history.find(run.id).run.id == run.id
    assert len(after.state().pages) == 1
