"""Runs that are to stop: by their deadline, by their client, and by force."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from t3d_server.models import Run, RunStatus
from t3d_server.runs import journal, recovery, supervision
from t3d_server.runs.executor import Outcome
from tests.runs.bench import LIMITS, Bench, in_loop, key_of

IMPATIENT = dataclasses.replace(LIMITS, cancel_grace_s=0.01)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SAVE_AFTER_S", 0.0)
    monkeypatch.setattr(recovery, "ANNOUNCE_S", 0.0)
    monkeypatch.setattr(supervision, "KILL_RETRY_S", 0.01)


async def given(bench: Bench) -> tuple[str, Run, asyncio.Future[None]]:
    """What a replica gets with the next call."""
    call_id, run, ended = await bench.answer()
    assert run is not None
    return call_id, run, ended


@in_loop
async def test_a_run_past_its_deadline_is_told_to_stop_and_fails_with_timeout() -> None:
    bench = Bench()
    await bench.submit(timeout_s=0.01)
    call_id, run, _ = await given(bench)
    while bench.coordinator.report(key_of(run), None, []).go_on:  # noqa: ASYNC110  # as a replica does
        await asyncio.sleep(0.01)
    await bench.finish(call_id, run, Outcome(RunStatus.CANCELLED))
    failed = await bench.coordinator.get(run.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (RunStatus.FAILED, "timeout")
    assert "0.01 s" in failed.error.message


@in_loop
async def test_waiting_takes_nothing_of_the_time_of_a_run() -> None:
    bench = Bench()
    run = await bench.submit(timeout_s=0.05)
    assert run.timeout_s == 0.05
    await asyncio.sleep(0.1)
    assert await bench.work() == [run.id]
    assert (await bench.coordinator.get(run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_the_time_goes_on_over_a_restart_of_the_coordinator() -> None:
    before = Bench()
    await before.submit(timeout_s=0.3)
    _call_id, run, _ = await given(before)
    while not before.records.find(run.id).attempts:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    after = Bench(before.store)
    await after.recover()
    await asyncio.sleep(0.01)
    assert after.coordinator.report(key_of(run), None, []).go_on is False


@in_loop
async def test_a_run_that_does_not_stop_is_ended_with_its_replica() -> None:
    """Its queue goes on, with a fresh one."""
    bench = Bench(limits=IMPATIENT)
    await bench.submit()
    _, run, ended = await given(bench)
    waiting = await bench.submit()
    assert (await bench.coordinator.cancel(run.id)).status is RunStatus.RUNNING
    assert await bench.replicas.killed.get() == "r1"
    assert await bench.replicas.killed.get() == "r1"  # again, until it is gone
    ended.set_exception(ConnectionError("the actor is dead"))
    cancelled = await bench.coordinator.get(run.id, wait_s=10)
    assert (cancelled.status, cancelled.attempt_history[0].outcome) == (RunStatus.CANCELLED, "killed")
    assert cancelled.error is not None
    assert "did not report within 0.01 s, so its replica was stopped. Call set_progress" in cancelled.error.message
    [said] = [line.message for line in bench.records.log(run.id) if line.level != "INFO" and "gpu" not in line.message]
    assert said == cancelled.error.message
    assert await bench.work() == [waiting.id]


@in_loop
async def test_a_replica_that_ends_without_its_call_ending_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue goes on without that call."""
    monkeypatch.setattr(supervision, "WATCH_S", 0.01)
    bench = Bench(limits=IMPATIENT)
    await bench.submit(timeout_s=0.01)
    _, run, _ = await given(bench)
    waiting = await bench.submit()
    bench.replicas.gone.add(await bench.replicas.killed.get())
    failed = await bench.coordinator.get(run.id, wait_s=10)
    assert failed.error is not None
    assert failed.error.code == "timeout"
    assert "0.01 s; it did not report within 0.01 s" in failed.error.message
    assert await bench.work() == [waiting.id]


@in_loop
async def test_a_replica_that_dies_while_its_run_is_to_stop_was_not_ended_by_force() -> None:
    bench = Bench()
    await bench.submit()
    _, run, ended = await given(bench)
    await bench.coordinator.cancel(run.id)
    ended.set_exception(ConnectionError("out of memory"))
    cancelled = await bench.coordinator.get(run.id, wait_s=10)
    assert (cancelled.status, cancelled.attempt_history[0].outcome) == (RunStatus.CANCELLED, "lost")
    lost, why = bench.records.log(run.id)[-2:]
    assert "out of memory" in lost.message
    assert why.message == "the run was cancelled"


@in_loop
async def test_runs_that_share_the_replica_are_repeated_and_not_charged() -> None:
    bench = Bench(slots=2, limits=IMPATIENT)
    await bench.submit()
    _, run, ended = await given(bench)
    await bench.submit()
    _, neighbour, its_end = await given(bench)
    await bench.coordinator.cancel(run.id)
    await bench.replicas.killed.get()
    for call in (ended, its_end):
        call.set_exception(ConnectionError("the actor is dead"))
    assert await bench.work() == [neighbour.id]
    done = await bench.coordinator.get(neighbour.id)
    assert [(each.outcome, each.charged) for each in done.attempt_history] == [("lost", False), ("completed", True)]


@in_loop
async def test_a_run_that_stops_in_time_keeps_its_replica() -> None:
    bench = Bench()
    await bench.submit()
    call_id, run, _ = await given(bench)
    await bench.coordinator.cancel(run.id)
    entry = bench.coordinator._ledger.require(run.id)
    assert "stop" in entry.timers
    await bench.finish(call_id, run, Outcome(RunStatus.CANCELLED))
    assert "stop" not in entry.timers
