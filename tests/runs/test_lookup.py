"""What is seen of runs: by their ids, in lists, and by who follows them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.errors import ExpiredError, RunNotFoundError
from t3d_server.models import LogLine, RunStatus
from t3d_server.runs.interface import Lines
from tests.runs.bench import NEVER_S, Bench, in_loop, lines_of, timings


@in_loop
async def test_who_waits_gets_a_run_as_soon_as_it_has_ended() -> None:
    bench = Bench()
    run = await bench.submit()
    assert (await bench.get(run.id, wait_s=0.01)).status is RunStatus.PENDING
    waiting = asyncio.create_task(bench.get(run.id, wait_s=NEVER_S))
    await bench.work()
    assert (await waiting).status is RunStatus.COMPLETED


@in_loop
async def test_lists_are_filtered_bounded_and_newest_first() -> None:
    bench = Bench()
    runs = [await bench.submit() for _ in range(4)]
    await bench.given()
    await bench.runs.cancel(run_id=runs[3].id)
    ids = [run.id for run in runs]
    listed = await bench.runs.list(limit=2)
    assert ([run.id for run in listed.runs], listed.more) == (ids[:1:-1], True)
    rest = await bench.runs.list(limit=2, before=ids[2])
    assert ([run.id for run in rest.runs], rest.more) == (ids[1::-1], False)
    for status, expected in ((RunStatus.PENDING, ids[2:0:-1]), (RunStatus.RUNNING, ids[:1])):
        assert [run.id for run in (await bench.runs.list(limit=9, status=status)).runs] == expected
    assert (await bench.runs.list(limit=9, algorithm="denoise")).runs == []
    assert [run.queue_position for run in (await bench.runs.list(limit=9)).runs] == [None, 1, 0, None]


@in_loop
async def test_a_run_that_has_expired_is_neither_found_nor_listed() -> None:
    bench = Bench(keep_s=60.0)
    run = await bench.submit()
    await bench.work()
    waiting = await bench.submit()
    bench.clock.ahead_s += 61
    assert await bench.ids() in ([waiting.id], [])
    with pytest.raises(ExpiredError):
        await bench.get(run.id)


@in_loop
async def test_an_open_run_does_not_expire() -> None:
    """It stays in lists, too, however long it waits."""
    bench = Bench(keep_s=60.0)
    run = await bench.submit()
    bench.clock.ahead_s += 61
    assert (await bench.get(run.id)).id == run.id
    assert await bench.ids() == [run.id]


@in_loop
async def test_a_run_in_a_page_is_the_historys() -> None:
    bench = Bench(timings=timings(page_runs=1))
    run = await bench.submit()
    await bench.work()
    await bench.compact()
    with pytest.raises(RunNotFoundError):
        await bench.get(run.id)
    assert bench.history.find(run.id).run.id == run.id


@in_loop
async def test_a_follower_learns_of_each_change_and_each_line_once() -> None:
    bench = Bench()
    run = await bench.submit()
    news = await bench.runs.news(run_id=run.id, seen=None, after=None, wait_s=NEVER_S)
    assert [line.message for line in news.lines] == [line.message for line in await bench.runs.log(run_id=run.id)]
    following = asyncio.create_task(
        bench.runs.news(run_id=run.id, seen=news.run, after=news.lines[-1].time, wait_s=NEVER_S)
    )
    await asyncio.sleep(0.02)
    assert not following.done()
    call_id, given, _ = await bench.given()
    assert (await following).run.status is RunStatus.RUNNING
    await bench.report(given, 0.5, lines_of("half way"))
    news = await bench.runs.news(run_id=run.id, seen=(await following).run, after=news.lines[-1].time, wait_s=NEVER_S)
    assert (news.run.progress, [line.message for line in news.lines]) == (0.5, ["half way"])
    await bench.finish(call_id, given)
    news = await bench.runs.news(run_id=run.id, seen=news.run, after=news.lines[-1].time, wait_s=NEVER_S)
    assert (news.run.status, news.lines) == (RunStatus.COMPLETED, [])


@in_loop
async def test_a_follower_learns_of_its_place_in_the_queue() -> None:
    bench = Bench()
    first, second = await bench.submit(), await bench.submit()
    after = (await bench.runs.log(run_id=second.id))[-1].time
    following = asyncio.create_task(
        bench.runs.news(run_id=second.id, seen=await bench.get(second.id), after=after, wait_s=NEVER_S)
    )
    await bench.runs.cancel(run_id=first.id)
    assert (await following).run.queue_position == 0


@in_loop
async def test_the_log_keeps_the_latest_lines_and_says_how_many_it_lost() -> None:
    bench = Bench()
    await bench.submit()
    _, given, _ = await bench.given()
    now = SYSTEM_CLOCK.now()
    lines = [LogLine(time=now + timedelta(seconds=n), level="INFO", message=str(n)) for n in range(10_500)]
    await bench.report(given, None, Lines(0, lines))
    log = await bench.runs.log(run_id=given.id)
    assert len(log) == 10_001
    assert "501 earlier lines are left out" in log[0].message
    assert log[-1].message == "10499"
