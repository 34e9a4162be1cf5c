"""What is on record of a run while it goes on, and of its end; and what waits for the store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from t3d_server.errors import (
    StoreUnavailableError,
)
from t3d_server.models import RunFailure, RunStatus
from t3d_server.run_store.events import Accepted, Ended, Updated
from t3d_server.runs.interface import Lines, Outcome
from t3d_server.runs.scheduler import MAX_ATTEMPTS
from tests.run_store.stores import CountingStore, FaultyStore
from tests.runs.bench import NEVER_S, Bench, events_of, in_loop, line_of, lines_of, timings, until

STORE_AWAY = RunFailure(code="store_unavailable", type="StoreUnavailableError", message="no store")


@in_loop
async def test_an_outcome_is_on_record_before_anyone_learns_of_it() -> None:
    store = FaultyStore()
    bench = Bench(store)
    run = await bench.submit()
    waiting = asyncio.create_task(bench.get(run.id, wait_s=NEVER_S))
    store.down = True
    working = asyncio.create_task(bench.work())
    await until(lambda: bench.runs._endings)
    assert not waiting.done()
    assert bench.ended == []
    store.down = False
    await working
    ended = await waiting
    assert (ended.status, ended.progress) == (RunStatus.COMPLETED, 1.0)
    assert bench.stored(run.id).run == ended == bench.ended[0]


@in_loop
async def test_a_short_run_costs_two_segments_and_no_other_request() -> None:
    store = CountingStore()
    bench = Bench(store, timings=timings(started_after_s=NEVER_S, log_after_s=NEVER_S, watch_s=NEVER_S))
    await bench.start()
    await bench.look()
    store.requests.clear()
    run = await bench.submit()
    await bench.work()
    assert store.requests == {("put", "runs/log/"): 2}
    assert [type(event) for event in events_of(store)[1:]] == [Accepted, Ended]
    assert bench.stored(run.id).run.attempts == 1


@in_loop
async def test_an_attempt_that_lasts_is_put_on_record() -> None:
    bench = Bench()
    run = await bench.submit()
    await bench.answer()
    await until(lambda: bench.stored(run.id).run.attempts)
    [updated] = [event for event in events_of(bench.store) if isinstance(event, Updated)]
    assert (updated.cause, updated.run.status) == ("started", RunStatus.RUNNING)


@in_loop
async def test_the_log_of_an_attempt_that_was_lost_is_stored_while_the_run_waits() -> None:
    bench = Bench(timings=timings(call_retry_s=NEVER_S))
    run = await bench.submit()
    _, given, ended = await bench.given()
    await bench.report(given, None, lines_of("last words"))
    ended.set_exception(ConnectionError("the replica died"))
    await bench.replicas.calls.get()
    expected = ["last words", "attempt 1 was lost: ConnectionError: the replica died"]
    after = Bench(bench.store)

    def stored() -> list[str]:
        kept = after.runs._history.log(bench.stored(run.id))
        return [line.message for line in kept][-2:]

    await until(lambda: stored() == expected)


@in_loop
async def test_the_traceback_of_a_failed_run_is_the_last_line_of_its_log() -> None:
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    traceback = 'Traceback (most recent call last):\n  File "Runner.py"\nValueError: too green\n'
    failure = RunFailure(code="algorithm_error", type="ValueError", message="too green", traceback=traceback)
    last = line_of("this looks bad")
    last = last.model_copy(update={"time": last.time + timedelta(hours=1)})  # the clock of its machine is ahead
    await bench.finish(call_id, given, Outcome(RunStatus.FAILED, error=failure), Lines(0, [last]))
    assert await bench.messages(run.id) == ["this looks bad", traceback.rstrip()]


@in_loop
async def test_an_outcome_waits_for_the_store_to_come_back() -> None:
    store = FaultyStore()
    bench = Bench(store)
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    store.down = True
    finishing = asyncio.create_task(bench.finish(call_id, given))
    assert (await bench.get(run.id, wait_s=0.05)).status is RunStatus.RUNNING
    assert not finishing.done()
    store.down = False
    assert (await finishing).counts
    assert bench.stored(run.id).run.status is RunStatus.COMPLETED


@in_loop
async def test_a_run_that_fails_because_the_store_is_away_is_repeated_when_it_is_back() -> None:
    """A bounded number of times."""
    store = FaultyStore()
    bench = Bench(store)
    run = await bench.submit()
    outcome = Outcome(RunStatus.FAILED, error=STORE_AWAY)
    call_id, given, _ = await bench.given()
    store.down = True
    delivery = asyncio.create_task(bench.finish(call_id, given, outcome))
    await asyncio.wait([delivery], timeout=0.05)
    assert (await bench.get(run.id)).status is RunStatus.PENDING
    assert not delivery.done()
    store.down = False
    for number in range(2, MAX_ATTEMPTS + 1):
        again = (await delivery).following
        assert again is not None
        assert (again.id, again.attempts) == (run.id, number)
        assert (await bench.finish(call_id, given, outcome)).following == again  # as Ray repeats it
        given = again
        delivery = asyncio.create_task(bench.finish(call_id, given, outcome))
    assert (await delivery).following is None
    failed = await bench.get(run.id, wait_s=NEVER_S)
    assert (failed.status, failed.error, failed.attempts) == (RunStatus.FAILED, STORE_AWAY, MAX_ATTEMPTS)


@in_loop
async def test_a_run_is_cancelled_that_waits_for_the_store() -> None:
    store = FaultyStore()
    bench = Bench(store, timings=timings(cancel_s=0.01))
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    store.down = True
    delivery = asyncio.create_task(bench.finish(call_id, given, Outcome(RunStatus.FAILED, error=STORE_AWAY)))
    await until(lambda: bench.runs._live[run.id].state == "REQUEUED")
    with pytest.raises(StoreUnavailableError):
        await bench.runs.cancel(run_id=run.id)
    store.down = False
    assert (await delivery).following is None
    assert (await bench.get(run.id, wait_s=NEVER_S)).status is RunStatus.CANCELLED
