"""A coordinator that is started again: what it takes up, what it repeats, and what it leaves alone."""

from __future__ import annotations

import asyncio

import pytest

from t3d_server.errors import ServerUnavailableError
from t3d_server.models import RunStatus
from t3d_server.run_store.events import Accepted, Updated
from t3d_server.runs.interface import Outcome
from t3d_server.runs.live_run import STARTED_AGAIN
from t3d_server.runs.scheduler import MAX_ATTEMPTS
from tests.run_store.stores import FaultyStore, GatedStore
from tests.runs.bench import (
    NEVER_S,
    OTHER_OUTPUT,
    OUTPUT,
    Bench,
    events_of,
    in_loop,
    lines_of,
    timings,
    until,
)

OTHER = Outcome(RunStatus.COMPLETED, (OTHER_OUTPUT,))


async def saved(bench: Bench, run_id: str, attempts: int = 1) -> None:
    """Returns once so many attempts are on record."""
    await until(lambda: bench.stored(run_id).run.attempts >= attempts)


@in_loop
async def test_what_waited_begins_in_order_and_was_charged_nothing() -> None:
    first = Bench()
    runs = [await first.submit() for _ in range(3)]
    for _ in range(MAX_ATTEMPTS + 1):
        bench = await Bench(first.store).start()
    assert await bench.work() == [run.id for run in runs]
    assert (await bench.get(runs[0].id)).attempts == 1


@in_loop
async def test_an_attempt_whose_replica_lives_goes_on() -> None:
    """Its reports and its outcome are taken although nobody knows the call."""
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.given()
    await saved(before, run.id)
    after = await Bench(before.store).start()
    assert (await after.get(run.id)).status is RunStatus.RUNNING
    assert (await after.report(given, 0.5)).go_on
    assert (await after.get(run.id)).progress == 0.5
    receipt = await after.finish(call_id, given)
    assert (receipt.counts, receipt.following) == (True, None)
    assert after.stored(run.id).run.status is RunStatus.COMPLETED
    assert after.replicas.open == 0


@in_loop
async def test_the_log_so_far_outlives_a_crash() -> None:
    """What was not stored of it is sent again, and each line is in it once, with the time that it had."""
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.given()
    await saved(before, run.id)
    lines = lines_of("first", "second", "third").lines
    await before.report(given, None, lines_of("first"))
    await until(lambda: any(isinstance(each, Updated) and each.cause == "logged" for each in events_of(before.store)))
    stored = before.stored(run.id).log
    assert stored
    after = await Bench(before.store).start()
    # "second" was reported to the coordinator that has died: the replica does not send it by itself.
    assert (await after.report(given, None, lines_of("third", first=2))).resend_from == 1
    assert (await after.report(given, None, lines_of("second", "third", first=1))).resend_from is None
    assert (await after.report(given, None, lines_of("first", "second", "third"))).resend_from is None
    await after.finish(call_id, given)
    messages = await after.messages(run.id)
    assert sorted(messages) == sorted([*(line.message for line in lines), STARTED_AGAIN])
    assert [message for message in messages if message != STARTED_AGAIN] == ["first", "second", "third"]


@in_loop
async def test_lines_of_an_attempt_that_ends_while_the_coordinator_is_away_are_not_lost() -> None:
    before = Bench(timings=timings(log_after_s=NEVER_S))
    run = await before.submit()
    call_id, given, _ = await before.given()
    await saved(before, run.id)
    await before.report(given, None, lines_of("first"))  # and not stored
    after = await Bench(before.store).start()
    assert (await after.finish(call_id, given, lines=lines_of("last", first=1))).resend_from == 0
    receipt = await after.finish(call_id, given, lines=lines_of("first", "last"))
    assert (receipt.counts, receipt.resend_from) == (True, None)
    messages = await after.messages(run.id)
    assert [message for message in messages if message != STARTED_AGAIN] == ["first", "last"]


@in_loop
async def test_an_attempt_whose_replica_has_died_is_charged_and_repeated() -> None:
    bench = Bench()
    run = await bench.submit()
    for number in range(1, MAX_ATTEMPTS + 1):
        await bench.given(f"r{number}")
        await saved(bench, run.id, number)
        after = Bench(bench.store)
        after.replicas.gone = {f"r{number}"}
        bench = await after.start()
    failed = await bench.get(run.id, wait_s=NEVER_S)
    assert failed.error is not None
    assert failed.error.code == "attempts_exhausted"
    assert [attempt.outcome for attempt in failed.attempt_history] == ["lost"] * MAX_ATTEMPTS


@in_loop
async def test_a_replica_that_dies_after_the_restart_is_noticed() -> None:
    before = Bench()
    run = await before.submit()
    await before.answer()
    await saved(before, run.id)
    after = await Bench(before.store).start()
    after.replicas.gone.add("r1")
    _, again, _ = await after.given("r2")
    assert (again.id, again.attempts) == (run.id, 2)


@in_loop
async def test_an_attempt_that_the_crash_hid_is_adopted_by_its_report() -> None:
    """The coordinator died after it had granted it, and before that was on record."""
    before = Bench(timings=timings(started_after_s=NEVER_S))
    run = await before.submit()
    call_id, given, _ = await before.given()
    after = await Bench(before.store, timings=timings(announce_s=NEVER_S)).start()
    assert after.replicas.open == 0
    assert (await after.report(given, 0.5)).go_on
    assert (await after.get(run.id)).status is RunStatus.RUNNING
    assert (await after.finish(call_id, given)).counts
    assert [attempt.replica for attempt in after.stored(run.id).run.attempt_history] == ["r1"]


@in_loop
async def test_a_hidden_attempt_that_is_late_does_not_count() -> None:
    before = Bench(timings=timings(started_after_s=NEVER_S))
    run = await before.submit()
    call_id, hidden, _ = await before.given("r1")
    after = await Bench(before.store).start()
    other_call, again, _ = await after.given("r2")
    assert again.attempts == hidden.attempts
    assert (await after.report(hidden, 0.5)).go_on is False
    assert not (await after.finish(call_id, hidden, OTHER)).counts
    assert (await after.finish(other_call, again)).counts
    assert after.stored(run.id).run.output_dataset_ids == [OUTPUT]


@in_loop
async def test_an_outcome_that_is_delivered_again_after_the_restart_counts() -> None:
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.given()
    await before.finish(call_id, given)
    after = await Bench(before.store).start()
    assert (await after.finish(call_id, given)).counts
    assert not (await after.finish(call_id, given, OTHER)).counts
    assert after.stored(run.id).run.output_dataset_ids == [OUTPUT]


@in_loop
async def test_a_run_that_has_ended_is_listed_after_a_crash() -> None:
    before = Bench()
    run = await before.submit()
    await before.work()
    after = await Bench(before.store).start()
    assert await after.ids() == [run.id]
    assert (await after.get(run.id)).status is RunStatus.COMPLETED
    assert after.replicas.open == 0


@in_loop
async def test_a_cancellation_outlives_the_coordinator() -> None:
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.given()
    await before.runs.cancel(run_id=run.id)
    after = await Bench(before.store).start()
    assert (await after.report(given, 0.5)).go_on is False
    await after.finish(call_id, given, Outcome(RunStatus.CANCELLED))
    assert (await after.get(run.id)).status is RunStatus.CANCELLED


@in_loop
async def test_a_run_of_a_version_that_is_gone_fails() -> None:
    before = Bench()
    run = await before.submit()
    after = Bench(before.store)
    after.versions.manifest = after.versions.manifest.model_copy(update={"version": "2.0.0"})
    await after.start()
    failed = await after.get(run.id, wait_s=NEVER_S)
    assert failed.error is not None
    assert failed.error.code == "version_not_found"


@in_loop
async def test_a_coordinator_that_was_replaced_writes_nothing_more() -> None:
    """It still holds what waits to be written: nobody learns of that, and the run is the other one's."""
    store = GatedStore()
    before = Bench(store, timings=timings(started_after_s=NEVER_S))
    run = await before.submit()
    call_id, given, _ = await before.given()
    store.close(before.runs._log.process)
    in_flight = asyncio.create_task(before.submit())
    await until(lambda: store.waiting)
    waiting = [asyncio.create_task(before.submit()), asyncio.create_task(before.runs.cancel(run_id=run.id))]
    finishing = asyncio.create_task(before.finish(call_id, given, OTHER))
    await until(lambda: len(before.runs._log._waiting) == 3)
    after = await Bench(store).start()
    store.open()
    for each in (in_flight, *waiting):
        with pytest.raises(ServerUnavailableError):
            await each
    assert not (await finishing).counts
    assert [event.run.id for event in events_of(store) if isinstance(event, Accepted)] == [run.id]
    assert (await before.report(given)).go_on is False
    assert await after.work() == [run.id]
    assert after.stored(run.id).run.output_dataset_ids == [OUTPUT]


@pytest.mark.parametrize("stored", [True, False])
@in_loop
async def test_a_start_without_the_store_can_be_repeated(stored: bool) -> None:
    store = FaultyStore()
    run = await Bench(store).submit()
    after = Bench(store)
    if stored:
        store.applied = 1
    else:
        store.down = True
    starting = asyncio.create_task(after.start())
    await asyncio.wait([starting])
    assert starting.exception() is not None
    store.down = False
    await after.start()
    assert await after.work() == [run.id]
