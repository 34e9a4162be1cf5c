"""Several clusters on one bucket: each leaves the other's runs alone, until that is gone."""

from __future__ import annotations

import asyncio

import pytest

from t3d_server.errors import ServerUnavailableError, StoreUnavailableError
from t3d_server.models import RunStatus
from t3d_server.runs.interface import Outcome
from tests.run_store.stores import FaultyStore
from tests.runs.bench import NEVER_S, OTHER_OUTPUT, OUTPUT, TIMINGS, Bench, in_loop, lines_of, timings, until

OTHER = Outcome(RunStatus.COMPLETED, (OTHER_OUTPUT,))


async def pair() -> tuple[Bench, Bench]:
    one = await Bench(cluster="one").start()
    two = await Bench(one.store, cluster="two").start()
    two.replicas.gone = {"r1"}  # no replica of one cluster is known in another
    await two.look()
    return one, two


async def take_over(two: Bench, *, until_s: float = TIMINGS.dead_s) -> None:
    """Look as often as is due, while nobody else writes."""
    await two.look()
    for _ in range(5):
        two.clock.ahead_s += until_s / 5
        await two.look()


@in_loop
async def test_two_clusters_leave_each_others_runs_alone() -> None:
    one, two = await pair()
    run = await one.submit()
    for _ in range(10):
        two.clock.ahead_s += 3
        await one.look()
        await two.look()
    assert two.replicas.open == 0
    assert await one.work() == [run.id]


@in_loop
async def test_runs_of_the_other_cluster_are_found_and_listed_with_their_logs() -> None:
    one, two = await pair()
    run = await one.submit()
    assert await two.get(run.id) == (await one.get(run.id)).model_copy(update={"queue_position": None})
    assert await two.ids() == [run.id]
    call_id, given, _ = await one.given()
    await one.finish(call_id, given, lines=lines_of("hello"))
    await two.look()
    assert (await two.get(run.id)).status is RunStatus.COMPLETED
    assert await two.messages(run.id) == ["hello"]


@in_loop
async def test_the_other_clusters_run_cannot_be_cancelled_here() -> None:
    """Nothing is answered that is not on record."""
    one, two = await pair()
    run = await one.submit()
    with pytest.raises(ServerUnavailableError):
        await two.runs.cancel(run_id=run.id)
    await one.work()
    await two.look()
    assert (await two.runs.cancel(run_id=run.id)).status is RunStatus.COMPLETED


@in_loop
async def test_a_key_stands_for_one_run_of_all_clusters() -> None:
    """Also where both are asked in the same moment."""
    one, two = await pair()
    runs = await asyncio.gather(*(bench.submit(key="k") for bench in (one, two)))
    assert len({run.id for run in runs}) == 1
    assert len(one.state().open) == 1
    assert one.replicas.open + two.replicas.open == 1


@in_loop
async def test_the_runs_of_a_cluster_that_is_gone_are_taken_over() -> None:
    one, two = await pair()
    running, waiting = await one.submit(key="k"), await one.submit()
    await one.given()
    await until(lambda: one.stored(running.id).run.attempts)
    await take_over(two, until_s=TIMINGS.dead_s - 0.1)
    assert two.replicas.open == 0
    await take_over(two, until_s=0.2)
    assert (await two.submit(key="k")).id == running.id
    done: list[str] = []
    while len(done) < 2:
        done += await two.work()
    assert set(done) == {running.id, waiting.id}
    history = (await two.get(running.id)).attempt_history
    assert [(attempt.replica, attempt.outcome) for attempt in history] == [("r1", "lost"), ("r1", "completed")]


@in_loop
async def test_a_store_that_was_away_makes_no_cluster_seem_gone() -> None:
    one, two = await pair()
    await one.submit()
    two.clock.ahead_s += 10 * TIMINGS.dead_s  # it could not look for so long
    await two.look()
    assert two.replicas.open == 0
    assert "one" in two.state().members


@in_loop
async def test_runs_are_adopted_by_one_of_several() -> None:
    one, two = await pair()
    three = await Bench(one.store, cluster="three").start()
    await three.look()
    run = await one.submit()
    for _ in range(6):
        for each in (two, three):
            each.clock.ahead_s += TIMINGS.dead_s / 5
            await asyncio.wait([asyncio.create_task(each.look())])
    assert two.replicas.open + three.replicas.open == 1
    assert (await two.get(run.id)).status is (await three.get(run.id)).status is RunStatus.PENDING


@in_loop
async def test_what_could_not_be_adopted_at_once_is_adopted_later() -> None:
    one, two = await pair()
    run = await one.submit()
    refresh, failed = two.versions.refresh, 0

    async def fails() -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise StoreUnavailableError("the store is down")
        await refresh()

    two.versions.refresh = fails  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError):
        await take_over(two)
    await two.look()
    assert await two.work() == [run.id]


@in_loop
async def test_a_cluster_that_slept_answers_nothing_that_is_not_on_record_and_goes_on_as_a_new_member() -> None:
    one, two = await pair()
    run, queued = await one.submit(), await one.submit()
    call_id, given, ended = await one.given()
    await until(lambda: one.stored(run.id).run.attempts)
    waiting = asyncio.create_task(one.get(queued.id, wait_s=NEVER_S))
    await take_over(two)
    one.clock.ahead_s += NEVER_S  # it slept
    with pytest.raises(ServerUnavailableError):
        await one.submit()
    assert (await one.report(given, 0.5)).go_on is False
    with pytest.raises(ServerUnavailableError):
        await one.finish(call_id, given, OTHER)
    with pytest.raises(ServerUnavailableError):
        await waiting
    await one.look()  # it joins again
    assert not (await one.finish(call_id, given, OTHER)).counts
    ended.set_result(None)
    assert (await one.get(run.id)).status is not RunStatus.COMPLETED
    new = await one.submit()
    assert await one.work() == [new.id]
    done: list[str] = []
    while len(done) < 2:
        done += await two.work()
    assert set(done) == {run.id, queued.id}
    assert two.stored(run.id).run.output_dataset_ids == [OUTPUT]
    assert (await one.get(queued.id, wait_s=NEVER_S)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("call", ["cancel", "begin", "finish"])
@in_loop
async def test_a_cluster_that_slept_notices_with_whatever_it_is_asked(call: str) -> None:
    one, two = await pair()
    run, queued = await one.submit(), await one.submit()
    call_id, given, _ = await one.given()
    await until(lambda: one.stored(run.id).run.attempts)
    await take_over(two)
    one.clock.ahead_s += NEVER_S
    if call == "cancel":
        with pytest.raises(ServerUnavailableError):
            await one.runs.cancel(run_id=queued.id)
    elif call == "begin":
        assert await one.runs.begin(call_id=call_id, replica="r1") is None
    else:
        with pytest.raises(ServerUnavailableError):
            await one.finish(call_id, given, OTHER)
    assert two.stored(run.id).run.status is not RunStatus.COMPLETED
    assert two.stored(queued.id).run.status is RunStatus.PENDING


@in_loop
async def test_an_outcome_is_not_announced_by_a_cluster_that_was_taken_over() -> None:
    one, two = await pair()
    run = await one.submit()
    call_id, given, _ = await one.given()
    await until(lambda: one.stored(run.id).run.attempts)
    await take_over(two)
    with pytest.raises(ServerUnavailableError):
        await one.finish(call_id, given, OTHER)
    assert one.ended == []
    await two.work()
    await one.look()
    assert (await one.get(run.id, wait_s=NEVER_S)).output_dataset_ids == [OUTPUT]


@in_loop
async def test_a_cluster_that_is_shut_down_leaves_its_runs_to_the_next_at_once() -> None:
    """The attempt that it ends is not charged."""
    one, two = await pair()
    running, waiting = await one.submit(), await one.submit()
    _, given, _ = await one.given()
    await one.runs.release()
    assert (await one.report(given, 0.5)).go_on is False
    await two.look()
    done = await two.work()
    assert sorted(done) == sorted([running.id, waiting.id])
    history = (await two.get(running.id)).attempt_history
    assert [(attempt.outcome, attempt.charged) for attempt in history] == [("lost", False), ("completed", True)]
    assert list(two.state().members) == ["two"]


@in_loop
async def test_a_new_cluster_takes_up_what_the_one_before_it_has_left() -> None:
    one = Bench(cluster="one")
    run = await one.submit()
    await one.runs.release()
    two = await Bench(one.store, cluster="two").start()
    assert await two.work() == [run.id]


@in_loop
async def test_a_coordinator_that_was_replaced_takes_no_place_back() -> None:
    old = await Bench(cluster="one").start()
    new = await Bench(old.store, cluster="one").start()
    for _ in range(3):
        await asyncio.wait([asyncio.create_task(old.look())])
    assert await new.submit()
    assert new.runs._log.is_confirmed
    assert not old.runs._log.is_member


@in_loop
async def test_a_coordinator_that_was_replaced_takes_no_place_back_after_a_claim() -> None:
    """It slept while its cluster was taken over, and joined again under the next process."""
    old = await Bench(cluster="one").start()
    two = await Bench(old.store, cluster="two").start()
    await two.look()
    await take_over(two)
    new = await Bench(old.store, cluster="one").start()
    await new.submit()
    for _ in range(3):
        await asyncio.wait([asyncio.create_task(old.look())])
    await new.submit()
    assert new.runs._log.is_member
    assert not old.runs._log.is_member


@in_loop
async def test_a_run_that_was_left_to_another_cluster_is_not_recorded_any_more() -> None:
    """Its record is the other one's, also where the store comes back only now."""
    one = Bench(store := FaultyStore(), cluster="one", timings=timings(started_after_s=NEVER_S))
    two = await Bench(store, cluster="two").start()
    run = await one.submit()
    await one.given()
    await two.look()
    store.down = True
    cancelling = asyncio.create_task(one.runs.cancel(run_id=run.id))
    await until(lambda: one.runs._cancels)
    store.down = False
    # The claim may come before the cancellation, or after it: then the run is cancelled.
    looking = asyncio.create_task(take_over(two))
    await asyncio.wait([cancelling, looking])
    on_record = two.stored(run.id)
    if isinstance(cancelling.exception(), ServerUnavailableError):
        assert not on_record.run.cancel_requested
    else:
        assert cancelling.result().cancel_requested
        assert on_record.run.cancel_requested or on_record.run.status is RunStatus.CANCELLED
