"""The coordinator's promises, with a dispatcher that the test steers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
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
from t3d_server.models import LogLine, RunFailure, RunStatus
from t3d_server.models import utc_now as now
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.executor import Outcome
from t3d_server.runs.grants import MAX_ATTEMPTS
from t3d_server.runs.lanes import ReplicaGoneError
from t3d_server.runs.records import Record, RunRecords
from t3d_server.storage.memory import MemoryObjectStore
from tests.runs.bench import Bench, FailingStore, in_loop, key_of


@in_loop
async def test_the_record_is_there_before_the_client_hears_of_the_run() -> None:
    bench = Bench()
    run = await bench.submit()
    assert [record.id for record in bench.records.open_runs()] == [run.id]


@in_loop
async def test_a_run_is_accepted_with_its_args_complete_and_its_device_resolved() -> None:
    bench = Bench()
    run = await bench.submit()
    assert run.args == {"sigma": 1.0}
    assert (run.device, run.resolved_device, run.status) == (None, "cpu", RunStatus.PENDING)
    assert "no gpu" in bench.coordinator.log(run.id)[0].message


@in_loop
async def test_the_outcome_is_stored_before_anyone_is_told() -> None:
    bench = Bench()
    run = await bench.submit()
    waiting = asyncio.create_task(bench.coordinator.get(run.id, wait_s=10))
    await bench.work()
    ended = await waiting
    assert ended.status is RunStatus.COMPLETED
    assert ended.progress == 1.0
    assert bench.records.find(run.id) == ended


@in_loop
async def test_an_ended_run_is_listed_as_live_until_the_index_has_it() -> None:
    bench = Bench()
    run = await bench.submit()
    await bench.work()
    while bench.coordinator.live_runs():  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    assert list(bench.records.open_runs()) == []
    assert [ended.id for ended in bench.records.ended_runs()] == [run.id]


@in_loop
async def test_progress_and_log_are_seen_while_the_run_goes_on() -> None:
    bench = Bench()
    run = await bench.submit()
    await bench.answer()
    line = LogLine(time=now(), level="INFO", message="half way")
    assert bench.coordinator.report(AttemptKey(run.id, 1, "r1"), 0.5, [line]).go_on
    seen = await bench.coordinator.get(run.id)
    assert (seen.status, seen.progress, seen.message) == (RunStatus.RUNNING, 0.5, "half way")
    assert bench.coordinator.log(run.id)[-1].message == line.message


@in_loop
async def test_a_queued_run_is_cancelled_at_once_and_never_begins() -> None:
    bench = Bench()
    first, queued = await bench.submit(), await bench.submit()
    cancelled = await bench.coordinator.cancel(queued.id)
    assert cancelled.status is RunStatus.CANCELLED
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    assert bench.records.find(queued.id) == cancelled
    assert await bench.work() == [first.id]


@in_loop
async def test_a_running_run_is_told_to_stop_with_its_next_report() -> None:
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.answer()
    assert given is not None
    for _ in range(2):
        asked = await bench.coordinator.cancel(run.id)
        assert (asked.status, asked.cancel_requested) == (RunStatus.RUNNING, True)
    assert bench.coordinator.live_runs() == [asked]
    assert bench.coordinator.report(key_of(given), 0.1, []).go_on is False
    await bench.finish(call_id, given, Outcome(RunStatus.CANCELLED))
    assert (await bench.coordinator.get(run.id)).status is RunStatus.CANCELLED
    assert bench.records.log(run.id)[-1].message == "the run was cancelled"


@in_loop
async def test_cancelling_an_ended_run_changes_nothing() -> None:
    bench = Bench()
    run = await bench.submit()
    await bench.work()
    assert (await bench.coordinator.cancel(run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_a_lost_attempt_is_repeated_and_its_late_outcome_does_not_count() -> None:
    bench = Bench()
    run = await bench.submit()
    lost_call, first, ended = await bench.answer()
    ended.set_exception(ConnectionError("the replica died"))
    call_id, again, _ = await bench.answer("r2")
    assert first is not None
    assert again is not None
    assert (again.id, again.attempts) == (run.id, 2)
    assert not (await bench.finish(lost_call, first)).counts
    assert (await bench.coordinator.get(run.id)).status is RunStatus.RUNNING
    assert (await bench.finish(call_id, again)).counts
    done = await bench.coordinator.get(run.id)
    assert done.status is RunStatus.COMPLETED
    history = [(each.number, each.replica, each.outcome, each.charged) for each in done.attempt_history]
    assert history == [(1, "r1", "lost", True), (2, "r2", "completed", True)]
    lost, retried = bench.records.log(run.id)[-2:]
    assert "the replica died" in lost.message
    assert retried.message.endswith("attempt 2")


@in_loop
async def test_a_call_that_comes_to_a_second_replica_is_lost_with_the_first() -> None:
    """Serve sends it again where it has not heard that the first replica took it."""
    bench = Bench()
    run = await bench.submit()
    call_id, _, ended = await bench.answer("r1")
    assert bench.coordinator.begin(call_id, "r2") is None
    ended.set_result(None)
    _, again, _ = await bench.answer("r3")
    assert again is not None
    assert (again.id, again.attempts) == (run.id, 2)


@in_loop
async def test_an_attempt_goes_on_while_its_replica_is_only_out_of_reach(monkeypatch: Any) -> None:
    monkeypatch.setattr("t3d_server.runs.supervision.WATCH_S", 0.01)
    bench = Bench()
    first, second = await bench.submit(), await bench.submit()
    call_id, given, ended = await bench.answer("r1")
    ended.set_exception(ReplicaGoneError("Socket closed", certain=False))
    _, other, _ = await bench.answer("r2")
    assert given is not None
    assert bench.coordinator.report(key_of(given), 0.5, []).go_on
    assert (await bench.finish(call_id, given)).counts
    assert (await bench.coordinator.get(first.id)).attempts == 1
    assert other is not None
    assert other.id == second.id


@in_loop
async def test_an_attempt_is_lost_when_the_replica_that_was_out_of_reach_has_ended(monkeypatch: Any) -> None:
    monkeypatch.setattr("t3d_server.runs.supervision.WATCH_S", 0.01)
    bench = Bench()
    run = await bench.submit()
    _, _, ended = await bench.answer("r1")
    bench.replicas.gone.add("r1")
    ended.set_exception(ReplicaGoneError("Socket closed", certain=False))
    assert await bench.work() == [run.id]


@in_loop
async def test_the_log_of_an_attempt_that_was_lost_is_stored_while_the_run_waits(monkeypatch: Any) -> None:
    monkeypatch.setattr("t3d_server.runs.journal.SAVE_LOG_AFTER_S", 0.01)
    bench = Bench()
    run = await bench.submit()
    _, given, ended = await bench.answer()
    assert given is not None
    bench.coordinator.report(key_of(given), None, [LogLine(time=now(), level="INFO", message="last words")])
    ended.set_exception(ConnectionError("the replica died"))
    messages = list[str]()
    while not messages:
        await asyncio.sleep(0.01)
        messages = [line.message for line in bench.records.log(run.id)]
    assert messages[-2:] == ["last words", "attempt 1 was lost: ConnectionError: the replica died"]


@in_loop
async def test_the_traceback_of_a_failed_run_is_the_last_line_of_its_log() -> None:
    bench = Bench()
    run = await bench.submit()
    call_id, given, _ = await bench.answer()
    assert given is not None
    traceback = 'Traceback (most recent call last):\n  File "Runner.py"\nValueError: too green\n'
    failure = RunFailure(code="algorithm_error", type="ValueError", message="too green", traceback=traceback)
    last = LogLine(time=now() + timedelta(hours=1), level="ERROR", message="this looks bad")  # its clock is ahead
    await bench.coordinator.finish(call_id, key_of(given), Outcome(RunStatus.FAILED, error=failure), [last])
    lines = [(line.level, line.message) for line in bench.records.log(run.id)]
    assert lines[-2:] == [("ERROR", "this looks bad"), ("ERROR", traceback.rstrip())]


@in_loop
async def test_attempts_are_bounded() -> None:
    bench = Bench()
    run = await bench.submit()
    for _ in range(MAX_ATTEMPTS):
        _, _, ended = await bench.answer()
        ended.set_exception(ConnectionError("the replica died"))
    failed = await bench.coordinator.get(run.id, wait_s=10)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (RunStatus.FAILED, "attempts_exhausted")
    assert [line.message.partition(":")[0] for line in bench.records.log(run.id) if line.level == "ERROR"] == [
        "AttemptsExhausted"
    ]


@in_loop
async def test_the_end_of_a_replica_that_no_run_can_have_caused_is_not_charged() -> None:
    bench = Bench()
    run = await bench.submit()
    for _ in range(MAX_ATTEMPTS + 1):
        *_, ended = await bench.answer()
        ended.set_exception(ReplicaGoneError("its node was told to stop", charged=False))
    await bench.work()
    done = await bench.coordinator.get(run.id)
    assert done.status is RunStatus.COMPLETED
    [*lost, _] = done.attempt_history
    assert {(each.reason, each.charged) for each in lost} == {("its node was told to stop", False)}


@in_loop
async def test_an_outcome_that_is_delivered_twice_gives_the_same_next_run_twice() -> None:
    """Ray repeats a call whose answer was lost."""
    bench = Bench()
    runs = [await bench.submit() for _ in range(3)]
    call_id, first, _ = await bench.answer()
    assert first is not None
    answers = [await bench.finish(call_id, first) for _ in range(2)]
    assert [(answer.counts, answer.following and answer.following.id) for answer in answers] == [(True, runs[1].id)] * 2
    assert bench.coordinator.begin(call_id, "r1") == answers[0].following


@in_loop
async def test_submitting_again_under_the_same_id_makes_one_run() -> None:
    """Ray repeats a call when the coordinator died in it."""
    bench = Bench()
    run_id = new_id()
    runs = [await bench.submit(run_id) for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(bench.coordinator.live_runs()) == 1


@in_loop
async def test_the_log_keeps_the_latest_lines_and_says_how_many_it_lost(monkeypatch: Any) -> None:
    bench = Bench()
    run = await bench.submit()
    await bench.answer()
    lines = [LogLine(time=now() + timedelta(seconds=n), level="INFO", message=str(n)) for n in range(10_500)]
    bench.coordinator.report(AttemptKey(run.id, 1, "r1"), None, lines)
    lines = bench.coordinator.log(run.id)
    assert len(lines) == 10_001
    assert "501 earlier lines are left out" in lines[0].message
    assert lines[-1].message == "10499"


@in_loop
async def test_draining_waits_for_runs_and_takes_no_new_ones() -> None:
    bench = Bench()
    run = await bench.submit()
    draining = asyncio.create_task(bench.coordinator.drain("blur", "1.0.0", cancel=False))
    await asyncio.sleep(0)
    with pytest.raises(VersionNotFoundError):
        await bench.submit()
    assert not draining.done()
    await bench.work()
    await draining
    assert (await bench.coordinator.get(run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_an_open_record_that_cannot_be_run_ends_and_one_that_cannot_be_read_is_passed_over() -> None:
    store = MemoryObjectStore()
    run = await Bench(store).submit()
    gone = Record.of(run.model_copy(update={"id": new_id(), "version": "0.9.0"}), owner="one")
    RunRecords(store).save(gone)
    store.put("runs/open/broken.json", b"{")
    bench = Bench(store)
    await bench.recover()
    failed = bench.records.find(gone.id)
    assert failed.error is not None
    assert failed.error.code == "version_not_found"
    assert await bench.work() == [run.id]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"args": {"sigma": "wide", "sigmma": 1}}, InvalidArgsError),
        ({"device": "gpu"}, DeviceNotSupportedError),
        ({"version": "9.9.9"}, VersionNotFoundError),
        ({"timeout_s": 61.0}, InvalidRequestError),
    ],
)
def test_a_request_that_is_wrong_leaves_nothing_behind(fields: dict[str, Any], error: type[Exception]) -> None:
    bench = Bench()
    with pytest.raises(error):
        asyncio.run(bench.submit(**fields))
    assert list(bench.store.list("runs/")) == []


@in_loop
async def test_a_run_is_not_accepted_while_the_store_is_down() -> None:
    store = FailingStore()
    bench = Bench(store)
    await bench.recover()
    store.down = True
    with pytest.raises(StoreUnavailableError):
        await bench.submit()
    assert bench.coordinator.live_runs() == []


@in_loop
async def test_an_outcome_waits_for_the_store_to_come_back() -> None:
    store = FailingStore()
    bench = Bench(store)
    run = await bench.submit()
    store.down = True
    working = asyncio.create_task(bench.work())
    await asyncio.sleep(0)
    assert (await bench.coordinator.get(run.id, wait_s=0.05)).status is RunStatus.RUNNING
    store.down = False
    await working
    assert bench.records.find(run.id).status is RunStatus.COMPLETED


@in_loop
async def test_a_run_that_fails_because_the_store_is_away_is_repeated_when_it_is_back() -> None:
    """A bounded number of times."""
    store = FailingStore()
    bench = Bench(store)
    run = await bench.submit()
    failure = RunFailure(code="store_unavailable", type="StoreUnavailableError", message="no store")
    call_id, given, _ = await bench.answer()
    assert given is not None
    store.down = True
    delivery = asyncio.create_task(bench.finish(call_id, given, Outcome(RunStatus.FAILED, error=failure)))
    await asyncio.wait([delivery], timeout=0.1)
    assert (await bench.coordinator.get(run.id)).status is RunStatus.PENDING
    assert not delivery.done()
    store.down = False
    for number in range(2, MAX_ATTEMPTS + 1):
        again = (await delivery).following
        assert again is not None
        assert (again.id, again.attempts) == (run.id, number)
        assert (await bench.finish(call_id, given)).following == again  # as Ray repeats it
        given = again
        delivery = asyncio.create_task(bench.finish(call_id, given, Outcome(RunStatus.FAILED, error=failure)))
    assert (await delivery).following is None
    failed = await bench.coordinator.get(run.id, wait_s=10)
    assert (failed.status, failed.error, failed.attempts) == (RunStatus.FAILED, failure, MAX_ATTEMPTS)


@in_loop
async def test_an_unknown_run_is_an_error() -> None:
    with pytest.raises(RunNotFoundError):
        await Bench().coordinator.get("nothing")
