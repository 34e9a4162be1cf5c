"""The promises of the scheduler, with replicas that the test plays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from t3d_server.errors import (
    DeviceNotSupportedError,
    InvalidArgsError,
    InvalidRequestError,
    RunNotFoundError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from t3d_server.ids import new_id
from t3d_server.models import RunFailure, RunStatus
from t3d_server.runs.interface import Outcome
from t3d_server.runs.replica_calls import ReplicaGoneError
from t3d_server.runs.scheduler import MAX_ATTEMPTS
from tests.run_store.stores import FaultyStore
from tests.runs.bench import NEVER_S, Bench, in_loop, lines_of, timings, until

STORE_AWAY = RunFailure(code="store_unavailable", type="StoreUnavailableError", message="no store")


@in_loop
async def test_a_run_is_on_record_before_its_client_gets_its_id() -> None:
    bench = Bench()
    run = await bench.submit()
    assert list(bench.state().open) == [run.id]


@in_loop
async def test_a_run_is_accepted_with_its_args_complete_and_its_device_resolved() -> None:
    bench = Bench()
    run = await bench.submit()
    assert run.args == {"sigma": 1.0}
    assert (run.device, run.resolved_device, run.status) == (None, "cpu", RunStatus.PENDING)
    assert "no gpu" in (await bench.runs.log(run_id=run.id))[0].message


@in_loop
async def test_progress_and_log_are_seen_while_the_run_goes_on() -> None:
    bench = Bench()
    run = await bench.submit()
    _, given, _ = await bench.given()
    assert (await bench.report(given, 0.5, lines_of("half way"))).go_on
    seen = await bench.get(run.id)
    assert (seen.status, seen.progress, seen.message) == (RunStatus.RUNNING, 0.5, "half way")
    assert await bench.messages(run.id) == ["half way"]


@in_loop
async def test_a_queued_run_is_cancelled_at_once_and_never_begins() -> None:
    bench = Bench()
    first, queued = await bench.submit(), await bench.submit()
    cancelled = await bench.runs.cancel(run_id=queued.id)
    assert cancelled.status is RunStatus.CANCELLED
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    assert bench.stored(queued.id).run == cancelled
    assert await bench.work() == [first.id]


@in_loop
async def test_a_running_run_stops_with_its_next_report_after_it_was_cancelled() -> None:
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    for _ in range(2):
        asked = await bench.runs.cancel(run_id=run.id)
        assert (asked.status, asked.cancel_requested) == (RunStatus.RUNNING, True)
        assert bench.stored(run.id).run.cancel_requested
    assert (await bench.report(given, 0.1)).go_on is False
    await bench.finish(call_id, given, Outcome(RunStatus.CANCELLED))
    assert (await bench.get(run.id)).status is RunStatus.CANCELLED
    assert (await bench.messages(run.id))[-1] == "the run was cancelled"


@pytest.mark.parametrize("repeats", [1, 2])
@in_loop
async def test_a_cancellation_is_not_answered_before_it_is_on_record(repeats: int) -> None:
    """The first and a repeated request alike fail while the store is away."""
    store = FaultyStore()
    bench = Bench(store, timings=timings(cancel_s=0.01, started_after_s=NEVER_S))
    run = await bench.submit()
    _, given, _ = await bench.given()
    store.down = True
    for _ in range(repeats):
        with pytest.raises(StoreUnavailableError):
            await bench.runs.cancel(run_id=run.id)
    assert (await bench.report(given)).go_on is False  # it stops all the same
    store.down = False
    await until(lambda: bench.stored(run.id).run.cancel_requested)
    assert (await bench.runs.cancel(run_id=run.id)).cancel_requested


@in_loop
async def test_cancelling_an_ended_run_changes_nothing() -> None:
    bench = Bench()
    run = await bench.submit()
    await bench.work()
    assert (await bench.runs.cancel(run_id=run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_a_run_that_completes_although_it_was_to_stop_is_completed() -> None:
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.runs.cancel(run_id=run.id)
    assert (await bench.finish(call_id, given)).counts
    assert (await bench.get(run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_a_lost_attempt_is_repeated_and_its_late_outcome_does_not_count() -> None:
    bench = Bench()
    run = await bench.submit()
    lost_call, first, ended = await bench.given()
    ended.set_exception(ConnectionError("the replica died"))
    call_id, again, _ = await bench.given("r2")
    assert (again.id, again.attempts) == (run.id, 2)
    assert not (await bench.finish(lost_call, first)).counts
    assert (await bench.get(run.id)).status is RunStatus.RUNNING
    assert (await bench.finish(call_id, again)).counts
    done = await bench.get(run.id)
    assert done.status is RunStatus.COMPLETED
    history = [(each.number, each.replica, each.outcome, each.charged) for each in done.attempt_history]
    assert history == [(1, "r1", "lost", True), (2, "r2", "completed", True)]
    lost, retried = await bench.messages(run.id)
    assert "the replica died" in lost
    assert retried.endswith("attempt 2")


@in_loop
async def test_an_attempt_goes_on_while_its_replica_is_only_out_of_reach() -> None:
    bench = Bench()
    first, second = await bench.submit(), await bench.submit()
    call_id, given, ended = await bench.given("r1")
    ended.set_exception(ReplicaGoneError("Socket closed", certain=False))
    _, other, _ = await bench.given("r2")
    assert (await bench.report(given, 0.5)).go_on
    assert (await bench.finish(call_id, given)).counts
    assert (await bench.get(first.id)).attempts == 1
    assert other.id == second.id


@in_loop
async def test_attempts_are_bounded() -> None:
    bench = Bench()
    run = await bench.submit()
    for _ in range(MAX_ATTEMPTS):
        _, _, ended = await bench.given()
        ended.set_exception(ConnectionError("the replica died"))
    failed = await bench.get(run.id, wait_s=NEVER_S)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (RunStatus.FAILED, "attempts_exhausted")
    assert (await bench.messages(run.id))[-1].startswith("AttemptsExhausted: all 3 attempts were lost")


@in_loop
async def test_an_outcome_that_is_delivered_twice_gives_the_same_next_run_twice() -> None:
    """Ray repeats a call whose answer was lost."""
    bench = Bench()
    runs = [await bench.submit() for _ in range(3)]
    call_id, first, _ = await bench.given()
    answers = [await bench.finish(call_id, first) for _ in range(2)]
    assert [(answer.counts, answer.following and answer.following.id) for answer in answers] == [(True, runs[1].id)] * 2
    assert await bench.runs.begin(call_id=call_id, replica="r1") == answers[0].following


@in_loop
async def test_another_outcome_of_an_ended_run_does_not_count() -> None:
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.finish(call_id, given)
    other = Outcome(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000001",))
    assert not (await bench.finish(call_id, given, other)).counts
    assert (await bench.get(run.id)).output_dataset_ids != list(other.output_dataset_ids)


@in_loop
async def test_lines_that_are_missing_before_an_outcome_are_asked_for() -> None:
    """Reports may be lost while the coordinator is away: the outcome is taken once the log is whole."""
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.report(given, None, lines_of("one"))
    receipt = await bench.finish(call_id, given, lines=lines_of("three", first=2))
    assert receipt.resend_from == 1
    assert (await bench.get(run.id)).status is RunStatus.RUNNING
    await bench.finish(call_id, given, lines=lines_of("two", "three", first=1))
    assert await bench.messages(run.id) == ["one", "two", "three"]


@in_loop
async def test_draining_waits_for_runs_and_takes_no_new_ones() -> None:
    bench = Bench()
    run = await bench.submit()
    draining = asyncio.create_task(bench.runs.drain("blur", "1.0.0", cancel=False))
    await asyncio.sleep(0)
    with pytest.raises(VersionNotFoundError):
        await bench.submit()
    assert not draining.done()
    await bench.work()
    await draining
    assert (await bench.get(run.id)).status is RunStatus.COMPLETED
    bench.runs.reopen("blur", "1.0.0")
    await bench.submit()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"args": {"sigma": "wide", "sigmma": 1}}, InvalidArgsError),
        ({"device": "gpu"}, DeviceNotSupportedError),
        ({"version": "9.9.9"}, VersionNotFoundError),
        ({"timeout_s": 61.0}, InvalidRequestError),
    ],
)
@pytest.mark.parametrize("key", [None, "k"])
@in_loop
async def test_a_request_that_is_wrong_leaves_nothing_behind(
    fields: dict[str, Any], error: type[Exception], key: str | None
) -> None:
    bench = await Bench().start()
    await bench.look()
    before = [stat.key for stat in bench.store.list("")]
    with pytest.raises(error):
        await bench.submit(key=key, **fields)
    assert [stat.key for stat in bench.store.list("")] == before


@in_loop
async def test_submitting_again_under_the_same_id_makes_one_run() -> None:
    """Ray repeats a call when the coordinator died in it, also once the run has ended and is in a page."""
    bench = Bench(timings=timings(page_runs=1))
    run_id = new_id()
    assert await bench.submit(run_id) == await bench.submit(run_id)
    await bench.work()
    await bench.compact()
    after = Bench(bench.store)
    assert (await after.submit(run_id)).status is RunStatus.COMPLETED
    assert after.replicas.open == 0


@in_loop
async def test_the_announcement_of_attempts_ends_no_hold_of_a_release() -> None:
    """Nothing begins after a release, also where the time in which replicas report runs out then."""
    store = FaultyStore()
    await Bench(store).submit()
    after = await Bench(store, timings=timings(announce_s=0.05)).start()
    store.down = True
    releasing = asyncio.create_task(after.runs.release())
    await asyncio.sleep(0.1)  # the time runs out
    assert after.replicas.open == 0
    store.down = False
    await asyncio.wait([releasing])
    assert after.replicas.open == 0


@in_loop
async def test_an_unknown_run_is_an_error() -> None:
    bench = await Bench().start()
    for call in (bench.runs.get, bench.runs.log, bench.runs.cancel):
        with pytest.raises(RunNotFoundError):
            await call(run_id="nothing")
