"""Runs that are to stop: by their deadline, by their client, and by force."""

from __future__ import annotations

import asyncio
import dataclasses

from t3d_server.models import RunStatus
from t3d_server.runs.interface import Outcome
from tests.runs.bench import LIMITS, NEVER_S, Bench, in_loop, until

IMPATIENT = dataclasses.replace(LIMITS, cancel_grace_s=0.01)
STOPPED = Outcome(RunStatus.CANCELLED)


@in_loop
async def test_a_run_past_its_deadline_is_to_stop_and_fails_with_timeout() -> None:
    bench = Bench()
    await bench.submit(timeout_s=0.01)
    call_id, run, _ = await bench.given()
    while (await bench.report(run)).go_on:  # noqa: ASYNC110  # as a replica does
        await asyncio.sleep(0.002)
    await bench.finish(call_id, run, STOPPED)
    failed = await bench.get(run.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (RunStatus.FAILED, "timeout")
    assert "0.01 s" in failed.error.message


@in_loop
async def test_waiting_takes_nothing_of_the_time_of_a_run() -> None:
    bench = Bench()
    run = await bench.submit(timeout_s=5.0)
    bench.clock.ahead_s += 10
    assert await bench.work() == [run.id]
    assert (await bench.get(run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_the_time_goes_on_over_a_restart_of_the_coordinator() -> None:
    before = Bench()
    await before.submit(timeout_s=30.0)
    _, run, _ = await before.given()
    await until(lambda: before.stored(run.id).run.attempts)
    after = Bench(before.store)
    after.clock.ahead_s = 31.0
    await after.start()
    while (await after.report(run)).go_on:  # noqa: ASYNC110  # as a replica does
        await asyncio.sleep(0.002)


@in_loop
async def test_a_run_that_does_not_stop_is_ended_with_its_replica() -> None:
    """Its queue goes on, with a fresh one."""
    bench = Bench(limits=IMPATIENT)
    await bench.submit()
    _, run, ended = await bench.given()
    waiting = await bench.submit()
    assert (await bench.runs.cancel(run_id=run.id)).status is RunStatus.RUNNING
    assert await bench.replicas.killed.get() == "r1"
    assert await bench.replicas.killed.get() == "r1"  # again, until it is gone
    ended.set_exception(ConnectionError("the actor is dead"))
    cancelled = await bench.get(run.id, wait_s=NEVER_S)
    assert (cancelled.status, cancelled.attempt_history[0].outcome) == (RunStatus.CANCELLED, "killed")
    assert cancelled.error is not None
    assert "did not report within 0.01 s, so its replica was stopped. Call set_progress" in cancelled.error.message
    assert await bench.messages(run.id) == [cancelled.error.message]
    assert await bench.work() == [waiting.id]


@in_loop
async def test_a_replica_that_ends_without_its_call_ending_is_noticed() -> None:
    """The queue goes on without that call."""
    bench = Bench(limits=IMPATIENT)
    await bench.submit(timeout_s=0.01)
    _, run, _ = await bench.given()
    waiting = await bench.submit()
    bench.replicas.gone.add(await bench.replicas.killed.get())
    failed = await bench.get(run.id, wait_s=NEVER_S)
    assert failed.error is not None
    assert failed.error.code == "timeout"
    assert "0.01 s; it did not report within 0.01 s" in failed.error.message
    assert await bench.work() == [waiting.id]


@in_loop
async def test_a_replica_that_dies_while_its_run_is_to_stop_was_not_ended_by_force() -> None:
    bench = Bench()
    await bench.submit()
    _, run, ended = await bench.given()
    await bench.runs.cancel(run_id=run.id)
    ended.set_exception(ConnectionError("out of memory"))
    cancelled = await bench.get(run.id, wait_s=NEVER_S)
    assert (cancelled.status, cancelled.attempt_history[0].outcome) == (RunStatus.CANCELLED, "lost")
    lost, why = await bench.messages(run.id)
    assert "out of memory" in lost
    assert why == "the run was cancelled"


@in_loop
async def test_runs_that_share_the_replica_are_repeated_and_not_charged() -> None:
    bench = Bench(slots=2, limits=IMPATIENT)
    await bench.submit()
    _, run, ended = await bench.given()
    await bench.submit()
    _, neighbour, its_end = await bench.given()
    await bench.runs.cancel(run_id=run.id)
    await bench.replicas.killed.get()
    for call in (ended, its_end):
        call.set_exception(ConnectionError("the actor is dead"))
    assert await bench.work() == [neighbour.id]
    done = await bench.get(neighbour.id)
    assert [(each.outcome, each.charged) for each in done.attempt_history] == [("lost", False), ("completed", True)]


@in_loop
async def test_a_run_that_stops_in_time_keeps_its_replica() -> None:
    bench = Bench(limits=dataclasses.replace(LIMITS, cancel_grace_s=0.05))
    await bench.submit()
    call_id, run, _ = await bench.given()
    await bench.runs.cancel(run_id=run.id)
    await bench.finish(call_id, run, STOPPED)
    await asyncio.sleep(0.1)  # longer than the grace: nothing is to happen
    assert bench.replicas.killed.empty()


@in_loop
async def test_the_grace_of_a_run_that_was_cancelled_begins_anew_after_a_restart() -> None:
    before = Bench()
    await before.submit()
    _, run, _ = await before.given()
    await before.runs.cancel(run_id=run.id)
    after = await Bench(before.store, limits=IMPATIENT).start()
    after.replicas.gone.add(await after.replicas.killed.get())
    assert (await after.get(run.id, wait_s=NEVER_S)).status is RunStatus.CANCELLED
