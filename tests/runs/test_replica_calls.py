"""What waits for replicas: in which order, by how many calls, and what becomes of it where none comes."""

from __future__ import annotations

import asyncio

from t3d_server.models import RunFailure, RunStatus
from t3d_server.runs.interface import QueueName
from t3d_server.runs.replica_calls import ReplicaGoneError
from t3d_server.runs.scheduler import MAX_ATTEMPTS
from tests.runs.bench import NEVER_S, Bench, in_loop, timings, until

QUEUE = QueueName("blur", "1.0.0", "cpu")


@in_loop
async def test_no_more_calls_are_open_than_there_are_slots() -> None:
    bench = Bench(slots=2)
    runs = [await bench.submit() for _ in range(5)]
    await asyncio.sleep(0)
    assert bench.replicas.open == 2
    assert [(await bench.get(run.id)).queue_position for run in runs] == [0, 1, 2, 3, 4]


@in_loop
async def test_a_replica_works_on_the_runs_of_its_queue_in_order_in_one_call() -> None:
    bench = Bench()
    runs = [await bench.submit() for _ in range(5)]
    assert await bench.work() == [run.id for run in runs]
    await asyncio.sleep(0)
    assert bench.replicas.open == 0


@in_loop
async def test_a_call_ends_after_a_while_and_another_one_takes_what_is_left() -> None:
    """A replica that is to go must not be kept for ever by a queue that is never empty."""
    bench = Bench(timings=timings(call_s=0.0))
    runs = [await bench.submit() for _ in range(2)]
    call_id, run, ended = await bench.given()
    assert (await bench.finish(call_id, run)).following is None
    ended.set_result(None)
    _, run, _ = await bench.given()
    assert run.id == runs[1].id


@in_loop
async def test_another_device_has_a_queue_of_its_own() -> None:
    bench = Bench(devices=["cpu", "gpu"])
    await bench.submit(device="gpu")
    await bench.submit(device="cpu")
    queues = {(await bench.replicas.calls.get())[0].device for _ in range(2)}
    assert queues == {"cpu", "gpu"}


@in_loop
async def test_a_call_that_nothing_waits_for_any_more_is_taken_back() -> None:
    """No replica is started for it."""
    bench = Bench()
    run = await bench.submit()
    _, call_id, ended = await bench.replicas.calls.get()
    await bench.runs.cancel(run_id=run.id)
    await asyncio.wait([ended])
    assert ended.cancelled()
    assert await bench.runs.begin(call_id=call_id, replica="r1") is None


@in_loop
async def test_a_call_that_comes_to_a_second_replica_is_lost_with_the_first() -> None:
    """Serve sends it again where it did not learn that the first replica took it."""
    bench = Bench()
    run = await bench.submit()
    call_id, _, ended = await bench.given("r1")
    assert await bench.runs.begin(call_id=call_id, replica="r2") is None
    ended.set_result(None)
    _, again, _ = await bench.given("r3")
    assert (again.id, again.attempts) == (run.id, 2)


@in_loop
async def test_calls_that_no_replica_answers_cost_no_attempt_and_keep_the_order() -> None:
    bench = Bench()
    runs = [await bench.submit() for _ in range(2)]
    for _ in range(MAX_ATTEMPTS + 1):
        *_, ended = await bench.replicas.calls.get()
        ended.set_exception(ConnectionError("no replica yet"))
    assert await bench.work() == [run.id for run in runs]
    assert (await bench.get(runs[0].id)).attempts == 1


@in_loop
async def test_the_end_of_a_replica_that_no_run_can_have_caused_is_not_charged() -> None:
    bench = Bench()
    run = await bench.submit()
    for _ in range(MAX_ATTEMPTS + 1):
        *_, ended = await bench.given()
        ended.set_exception(ReplicaGoneError("its node was to stop", charged=False))
    await bench.work()
    done = await bench.get(run.id)
    assert done.status is RunStatus.COMPLETED
    [*lost, _] = done.attempt_history
    assert {(each.reason, each.charged) for each in lost} == {("its node was to stop", False)}


@in_loop
async def test_what_waits_has_time_where_the_cluster_has_no_replica_for_it() -> None:
    """Whether calls are turned away or stay open; the log tells once what the cluster lacks, if that is known."""
    bench = Bench(timings=timings(give_up_s=0.0))
    bench.replicas.lacking = "waits for a node with 2 CPU"
    run = await bench.submit()
    for _ in range(MAX_ATTEMPTS + 1):
        *_, ended = await bench.replicas.calls.get()
        ended.set_exception(ReplicaGoneError("its node has died"))
    _, call_id, _ = await bench.replicas.calls.get()
    looks = bench.replicas.looks
    await until(lambda: bench.replicas.looks > looks + 2)
    waiting = await bench.get(run.id)
    assert (waiting.status, waiting.attempts) == (RunStatus.PENDING, 0)
    assert await bench.messages(run.id) == [bench.replicas.lacking]
    assert await bench.runs.begin(call_id=call_id, replica="r1") is not None


@in_loop
async def test_what_waits_fails_when_no_replica_answers_for_long() -> None:
    bench = Bench(slots=2, timings=timings(give_up_s=0.0))
    runs = [await bench.submit() for _ in range(4)]
    await bench.replicas.calls.get()
    *_, ended = await bench.replicas.calls.get()
    ended.set_exception(ConnectionError("no such deployment"))
    for run in runs:
        failed = await bench.get(run.id, wait_s=NEVER_S)
        assert failed.error is not None
        assert failed.error.code == "load_failed"
        assert "no such deployment" in failed.error.message


@in_loop
async def test_a_call_is_given_up_when_replicas_cannot_start() -> None:
    """Serve keeps such a call open for ever."""
    bench = Bench(timings=timings(give_up_s=0.0))
    bench.replicas.hindered = "the replica's process ended in load_assets"
    run = await bench.submit()
    failed = await bench.get(run.id, wait_s=NEVER_S)
    assert failed.error is not None
    assert bench.replicas.hindered in failed.error.message
    await until(lambda: not bench.replicas.open)


@in_loop
async def test_a_queue_outlives_a_call_that_is_taken_back_before_it_began() -> None:
    bench = Bench()
    first = await bench.submit()
    call_id, run, ended = await bench.given()
    second = await bench.submit()
    assert run.id == first.id
    ended.set_result(None)
    await bench.finish(call_id, run)
    for ticks in range(20):
        queued = await bench.submit()
        for _ in range(ticks):
            await asyncio.sleep(0)
        await bench.runs.cancel(run_id=queued.id)
    last = await bench.submit()
    done: list[str] = []
    while len(done) < 2:
        done += await bench.work()
    assert done == [second.id, last.id]


@in_loop
async def test_replicas_that_cannot_load_fail_what_waits_for_them() -> None:
    bench = Bench()
    runs = [await bench.submit() for _ in range(3)]
    failure = RunFailure(code="load_failed", type="LoadFailedError", message="no weights", traceback="Runner.py")
    await bench.replicas.calls.get()
    await bench.runs.load_failed(queue=QUEUE, failure=failure)
    ended = [await bench.get(run.id) for run in runs]
    assert [run.error for run in ended] == [failure] * 3


@in_loop
async def test_a_replica_that_cannot_load_fails_nothing_while_another_one_works() -> None:
    bench = Bench(slots=2)
    await bench.submit()
    await bench.answer()
    waiting = await bench.submit()
    failure = RunFailure(code="load_failed", type="LoadFailedError", message="out of memory")
    await bench.runs.load_failed(queue=QUEUE, failure=failure)
    assert (await bench.get(waiting.id)).status is RunStatus.PENDING
