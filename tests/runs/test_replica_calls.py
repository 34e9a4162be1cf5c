"""What waits for replicas: in which order, by how many calls, and what becomes of it where none comes."""

from __future__ import annotations

import asyncio
from typing import Any

from t3d_server.models import RunFailure, RunStatus
from t3d_server.runs.grants import MAX_ATTEMPTS
from t3d_server.runs.lanes import Lane, ReplicaGoneError
from tests.runs.bench import Bench, in_loop


@in_loop
async def test_no_more_calls_are_open_than_a_lane_has_slots() -> None:
    bench = Bench(slots=2)
    runs = [await bench.submit() for _ in range(5)]
    await asyncio.sleep(0)
    assert bench.replicas.open == 2
    assert [(await bench.coordinator.get(run.id)).queue_position for run in runs] == [0, 1, 2, 3, 4]


@in_loop
async def test_a_replica_works_on_the_runs_of_its_lane_in_order_in_one_call() -> None:
    bench = Bench()
    runs = [await bench.submit() for _ in range(5)]
    assert await bench.work() == [run.id for run in runs]
    await asyncio.sleep(0)
    assert bench.replicas.open == 0


@in_loop
async def test_a_shift_ends_and_another_call_takes_what_is_left(monkeypatch: Any) -> None:
    """A replica that is to go must not be kept for ever by a lane that is never empty."""
    monkeypatch.setattr("t3d_server.runs.lanes.SHIFT_S", 0.0)
    bench = Bench()
    runs = [await bench.submit() for _ in range(2)]
    call_id, run, ended = await bench.answer()
    assert run is not None
    assert (await bench.finish(call_id, run)).following is None
    ended.set_result(None)
    call_id, run, ended = await bench.answer()
    assert run is not None
    assert run.id == runs[1].id


@in_loop
async def test_another_device_has_a_queue_of_its_own() -> None:
    bench = Bench()
    bench.coordinator._reception._devices = lambda: ["cpu", "gpu"]
    await bench.submit(device="gpu")
    await bench.submit(device="cpu")
    lanes = {(await bench.replicas.calls.get())[0].device for _ in range(2)}
    assert lanes == {"cpu", "gpu"}


@in_loop
async def test_a_call_that_nothing_waits_for_any_more_is_taken_back() -> None:
    """No replica is started for it."""
    bench = Bench()
    run = await bench.submit()
    _, call_id, ended = await bench.replicas.calls.get()
    await bench.coordinator.cancel(run.id)
    await asyncio.wait([ended])
    assert ended.cancelled()
    assert bench.coordinator.begin(call_id, "r1") is None


@in_loop
async def test_calls_that_no_replica_answers_cost_no_attempt_and_keep_the_order(monkeypatch: Any) -> None:
    monkeypatch.setattr("t3d_server.runs.lanes.RETRY_S", 0.0)
    bench = Bench()
    runs = [await bench.submit() for _ in range(2)]
    for _ in range(MAX_ATTEMPTS + 1):
        *_, ended = await bench.replicas.calls.get()
        ended.set_exception(ConnectionError("no replica yet"))
    assert await bench.work() == [run.id for run in runs]
    assert (await bench.coordinator.get(runs[0].id)).attempts == 1


@in_loop
async def test_what_waits_has_time_where_the_cluster_has_no_replica_for_it(monkeypatch: Any) -> None:
    """Whether calls are turned away or stay open; the log tells once what the cluster lacks, if that is known."""
    monkeypatch.setattr("t3d_server.runs.lanes.RETRY_S", 0.0)
    monkeypatch.setattr("t3d_server.runs.lanes.WATCH_S", 0.01)
    monkeypatch.setattr("t3d_server.runs.lanes.GIVE_UP_S", 0.0)
    bench = Bench()
    bench.replicas.lacking = "waits for a node with 2 CPU"
    run = await bench.submit()
    for _ in range(MAX_ATTEMPTS + 1):
        *_, ended = await bench.replicas.calls.get()
        ended.set_exception(ReplicaGoneError("its node has died"))
    _, call_id, _ = await bench.replicas.calls.get()
    await asyncio.sleep(0.1)  # some looks at the open call
    waiting = await bench.coordinator.get(run.id)
    assert (waiting.status, waiting.attempts) == (RunStatus.PENDING, 0)
    told = [line.message for line in bench.coordinator.log(run.id) if "gpu" not in line.message]
    assert told == [bench.replicas.lacking]
    assert bench.coordinator.begin(call_id, "r1") is not None


@in_loop
async def test_what_waits_fails_when_no_replica_answers_for_long(monkeypatch: Any) -> None:
    monkeypatch.setattr("t3d_server.runs.lanes.RETRY_S", 0.0)
    monkeypatch.setattr("t3d_server.runs.lanes.GIVE_UP_S", 0.0)
    bench = Bench(slots=2)
    runs = [await bench.submit() for _ in range(4)]
    await bench.replicas.calls.get()
    *_, ended = await bench.replicas.calls.get()
    ended.set_exception(ConnectionError("no such deployment"))
    for run in runs:
        failed = await bench.coordinator.get(run.id, wait_s=10)
        assert failed.error is not None
        assert failed.error.code == "load_failed"
        assert "no such deployment" in failed.error.message


@in_loop
async def test_a_call_is_given_up_when_replicas_cannot_start(monkeypatch: Any) -> None:
    """Serve keeps such a call open for ever."""
    monkeypatch.setattr("t3d_server.runs.lanes.WATCH_S", 0.01)
    monkeypatch.setattr("t3d_server.runs.lanes.GIVE_UP_S", 0.0)
    bench = Bench()
    bench.replicas.hindered = "the replica's process ended in load_assets"
    run = await bench.submit()
    failed = await bench.coordinator.get(run.id, wait_s=10)
    assert failed.error is not None
    assert bench.replicas.hindered in failed.error.message
    assert bench.replicas.open == 0


@in_loop
async def test_a_lane_outlives_a_call_that_is_taken_back_before_it_began() -> None:
    bench = Bench()
    first = await bench.submit()
    call_id, run, ended = await bench.answer()
    assert run is not None
    second = await bench.submit()
    assert run.id == first.id
    ended.set_result(None)
    await bench.finish(call_id, run)
    for ticks in range(20):
        queued = await bench.submit()
        for _ in range(ticks):
            await asyncio.sleep(0)
        await bench.coordinator.cancel(queued.id)
    await bench.submit()
    done: list[str] = []
    while len(done) < 2:
        done += await bench.work()
    assert done[0] == second.id


@in_loop
async def test_replicas_that_cannot_load_fail_what_waits_for_them() -> None:
    bench = Bench()
    runs = [await bench.submit() for _ in range(3)]
    failure = RunFailure(code="load_failed", type="LoadFailedError", message="no weights", traceback="Runner.py")
    await bench.replicas.calls.get()
    await bench.coordinator.load_failed(Lane("blur", "1.0.0", "cpu"), failure)
    ended = [await bench.coordinator.get(run.id) for run in runs]
    assert [run.error for run in ended] == [failure] * 3


@in_loop
async def test_a_replica_that_cannot_load_fails_nothing_while_another_one_works() -> None:
    bench = Bench(slots=2)
    await bench.submit()
    await bench.answer()
    waiting = await bench.submit()
    failure = RunFailure(code="load_failed", type="LoadFailedError", message="out of memory")
    await bench.coordinator.load_failed(Lane("blur", "1.0.0", "cpu"), failure)
    assert (await bench.coordinator.get(waiting.id)).status is RunStatus.PENDING
