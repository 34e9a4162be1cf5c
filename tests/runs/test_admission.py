"""What is accepted: each run once, and no more than may wait."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import pytest

from t3d_server.errors import InvalidArgsError, InvalidRequestError, QueueFullError, VersionNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import RunStatus
from tests.runs.bench import LIMITS, Bench, in_loop


@in_loop
async def test_the_same_key_and_request_give_the_same_run() -> None:
    """Also at the same time, and once it has ended."""
    bench = await Bench().start()
    runs = await asyncio.gather(*(bench.submit(key="k") for _ in range(5)))
    assert len({run.id for run in runs}) == 1
    assert len(bench.state().open) == 1
    await bench.work()
    again = await bench.submit(key="k")
    assert (again.id, again.status) == (runs[0].id, RunStatus.COMPLETED)


@pytest.mark.parametrize("key", [None, "k"])
@in_loop
async def test_the_same_run_twice_at_the_same_time_is_one(key: str | None) -> None:
    """Ray repeats a call whose answer it has lost, also while the first one is worked on."""
    bench = await Bench().start()
    run_id = new_id()
    await asyncio.gather(*(bench.submit(run_id, key) for _ in range(2)))
    assert (await bench.submit()).queue_position == 1


@in_loop
async def test_a_run_is_cancelled_that_is_just_being_accepted() -> None:
    bench = await Bench().start()
    run_id = new_id()
    submitting = asyncio.create_task(bench.submit(run_id))
    await asyncio.sleep(0)
    assert (await bench.runs.cancel(run_id=run_id)).status is RunStatus.CANCELLED
    assert (await submitting).id == run_id


@in_loop
async def test_a_version_is_drained_of_runs_that_are_just_being_accepted() -> None:
    bench = await Bench().start()
    submitting = asyncio.create_task(bench.submit(key="k"))
    await asyncio.sleep(0)
    await bench.runs.drain("blur", "1.0.0", cancel=True)
    assert (await bench.get((await submitting).id)).status is RunStatus.CANCELLED


@in_loop
async def test_a_key_that_was_used_for_something_else_is_refused() -> None:
    bench = Bench()
    run = await bench.submit(key="k")
    for fields in ({"args": {"sigma": 2.0}}, {"args": {"sigma": "wide"}}):
        with pytest.raises(InvalidRequestError, match=run.id):
            await bench.submit(key="k", **fields)
    assert (await bench.submit(key="other")).id != run.id


@in_loop
async def test_a_request_that_was_refused_uses_no_key_up() -> None:
    bench = Bench()
    with pytest.raises(InvalidArgsError):
        await bench.submit(key="k", args={"sigma": "wide"})
    await bench.submit(key="k")


@in_loop
async def test_a_key_outlives_the_coordinator() -> None:
    bench = Bench()
    run = await bench.submit(key="k")
    after = Bench(bench.store)
    assert (await after.submit(key="k")).id == run.id
    assert list(after.state().open) == [run.id]


@in_loop
async def test_no_more_runs_wait_than_may() -> None:
    """Those that are worked on do not count; an accepted run is given back also while the queue is full."""
    bench = Bench(limits=dataclasses.replace(LIMITS, max_queued_per_algorithm=2))
    await bench.submit(key="first")
    await bench.answer()
    for _ in range(2):
        await bench.submit()
    with pytest.raises(QueueFullError, match="blur") as raised:
        await bench.submit()
    assert raised.value.retry_after_s >= 1
    await bench.submit(key="first")
    assert len(bench.state().open) == 3


@in_loop
async def test_a_new_key_gets_the_error_that_is_due_without_one() -> None:
    bench = Bench(limits=dataclasses.replace(LIMITS, max_queued=0))
    with pytest.raises(QueueFullError):
        await bench.submit(key="k")
    with pytest.raises(VersionNotFoundError):
        await bench.submit(key="k", version="9.9.9")


@pytest.mark.parametrize("keys", [(None,) * 6, "abcdef"])
@in_loop
async def test_the_bound_on_all_that_waits_holds_at_once(keys: Sequence[str | None]) -> None:
    bench = await Bench(limits=dataclasses.replace(LIMITS, max_queued=3)).start()
    answers = await asyncio.gather(*(bench.submit(key=key) for key in keys), return_exceptions=True)
    assert [type(answer) for answer in answers].count(QueueFullError) == 3


@in_loop
async def test_the_time_to_try_again_follows_from_the_run_at_work_where_none_has_ended() -> None:
    bench = Bench(limits=dataclasses.replace(LIMITS, max_queued=1))
    await bench.submit()
    with pytest.raises(QueueFullError) as raised:
        await bench.submit()
    assert raised.value.retry_after_s == 10
    await bench.answer()
    bench.clock.ahead_s += 29.5
    await bench.submit()
    with pytest.raises(QueueFullError) as raised:
        await bench.submit()
    assert raised.value.retry_after_s == 30


@in_loop
async def test_the_time_to_try_again_follows_from_how_long_runs_take() -> None:
    bench = Bench(limits=dataclasses.replace(LIMITS, max_queued=1))
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    bench.clock.ahead_s += timedelta(minutes=5).total_seconds()
    await bench.finish(call_id, given)
    assert (await bench.get(run.id)).status is RunStatus.COMPLETED
    await bench.submit()
    with pytest.raises(QueueFullError) as raised:
        await bench.submit()
    assert raised.value.retry_after_s == 60
