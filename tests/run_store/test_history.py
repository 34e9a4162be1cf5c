"""Ended runs as routers read them, while the coordinator writes pages and snapshots, or is away."""

from __future__ import annotations

import pytest

from t3d_server.errors import ExpiredError, RunNotFoundError
from t3d_server.models import RunStatus
from t3d_server.run_store.history import RunHistory
from tests.run_store.stores import CountingStore
from tests.runs.bench import Bench, in_loop, lines_of, timings

PAGED = timings(page_runs=1)


@in_loop
async def test_a_run_is_found_with_its_log_once_a_snapshot_has_its_page() -> None:
    bench = Bench(timings=PAGED)
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.finish(call_id, given, lines=lines_of("hello"))
    reader = RunHistory(bench.store)
    with pytest.raises(RunNotFoundError):
        reader.find(run.id)
    await bench.compact()
    found = reader.find(run.id)
    assert (found.run.status, found.run.attempts) == (RunStatus.COMPLETED, 1)
    assert [line.message for line in reader.log(found)][-1] == "hello"


@in_loop
async def test_a_run_is_found_without_a_look_at_the_snapshots_where_its_page_is_known() -> None:
    store = CountingStore()
    bench = Bench(store, timings=PAGED)
    runs = [await bench.submit() for _ in range(3)]
    await bench.work()
    await bench.compact()
    reader = RunHistory(store)
    reader.find(runs[0].id)
    store.requests.clear()
    assert reader.find(runs[0].id).run.id == runs[0].id
    assert not store.requests  # of so small a page all is kept


@in_loop
async def test_each_run_is_listed_by_the_coordinator_or_by_the_history_at_any_time() -> None:
    store = CountingStore()
    bench = Bench(store, timings=PAGED)
    reader = RunHistory(store)
    ids: list[str] = []
    for _ in range(4):
        ids.append((await bench.submit()).id)
        for step in (bench.work, bench.runs._compactor.step, bench.compact):
            await step()
            known = await bench.runs.list(limit=100)
            ended, more = reader.newest(limit=100, snapshot_seq=known.snapshot_seq)
            assert sorted({run.id for run in [*known.runs, *ended]}) == ids
            assert not more


@in_loop
async def test_the_history_is_there_without_the_coordinator_and_after_a_restart() -> None:
    bench = Bench(timings=PAGED)
    runs = [await bench.submit() for _ in range(3)]
    await bench.work()
    await bench.compact()
    listed, _ = RunHistory(bench.store).newest(limit=2)
    assert [run.id for run in listed] == [run.id for run in runs[:0:-1]]
    after = await Bench(bench.store).start()
    assert await after.ids() == []
    assert after.history.find(runs[0].id).run.status is RunStatus.COMPLETED


@in_loop
async def test_runs_and_logs_that_have_expired_are_told_from_those_that_never_were() -> None:
    bench = Bench(timings=PAGED)
    run = await bench.submit()
    await bench.work()
    await bench.compact()
    reader = RunHistory(bench.store, keep_s=3600, keep_logs_s=60, clock=bench.clock)
    stored = reader.find(run.id)
    bench.clock.ahead_s += 100
    with pytest.raises(ExpiredError, match="T3D_KEEP_LOGS_S"):
        reader.log(stored)
    assert reader.newest(limit=9)[0] == [stored.run]
    bench.clock.ahead_s += 3600
    with pytest.raises(ExpiredError, match="T3D_KEEP_RUNS_S"):
        reader.find(run.id)
    assert reader.newest(limit=9)[0] == []


@pytest.mark.parametrize(
    "run_id", ["", "nothing", "../../etc/passwd", "0199aaaa-0000-7000-8000-000000000000", "\x00", "ä" * 500]
)
def test_unknown_and_odd_ids_are_not_found(run_id: str) -> None:
    with pytest.raises(RunNotFoundError):
        RunHistory(CountingStore()).find(run_id)
