"""A coordinator that is started again: what it takes up, what it repeats, and what it leaves alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from t3d_server.errors import RunNotFoundError, ServerUnavailableError
from t3d_server.ids import tag_for
from t3d_server.models import RunStatus
from t3d_server.runs import journal, ownership, recovery, supervision
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.executor import Outcome
from t3d_server.runs.grants import MAX_ATTEMPTS
from t3d_server.runs.log import LogTail, log_line
from t3d_server.runs.ownership import LEASE_S, Ownership
from t3d_server.storage.base import read
from t3d_server.storage.memory import MemoryObjectStore
from tests.runs.bench import DONE, Bench, FailingStore, in_loop, key_of


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SAVE_AFTER_S", 0.0)
    monkeypatch.setattr(recovery, "ANNOUNCE_S", 0.0)
    monkeypatch.setattr(recovery, "RENEW_S", 0.01)
    monkeypatch.setattr(supervision, "WATCH_S", 0.01)


class SlowStore(MemoryObjectStore):
    """A store that renews no lease until it may, once it is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self.began, self.go_on = threading.Event(), threading.Event()

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
        if self.is_slow and b"renewal" in data:
            self.began.set()
            self.go_on.wait()
        super().put(key, data, if_absent=if_absent)


async def saved(bench: Bench, run_id: str, attempts: int) -> None:
    """Returns once the record tells of so many attempts."""
    while bench.records.find(run_id).attempts < attempts:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)


@in_loop
async def test_what_waited_begins_in_order_and_was_charged_nothing() -> None:
    store = MemoryObjectStore()
    first = Bench(store)
    runs = [await first.submit() for _ in range(3)]
    for _ in range(MAX_ATTEMPTS + 1):
        bench = Bench(store)
        await bench.recover()
    assert await bench.work() == [run.id for run in runs]
    assert (await bench.coordinator.get(runs[0].id)).attempts == 1


@in_loop
async def test_an_attempt_whose_replica_lives_goes_on() -> None:
    """Its reports and its outcome are taken although nobody knows the call."""
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.answer()
    await saved(before, run.id, 1)
    after = Bench(before.store)
    await after.recover()
    assert given is not None
    assert (await after.coordinator.get(run.id)).status is RunStatus.RUNNING
    assert after.coordinator.report(key_of(given), 0.5, []).go_on
    assert (await after.coordinator.get(run.id)).progress == 0.5
    receipt = await after.finish(call_id, given)
    assert (receipt.counts, receipt.following) == (True, None)
    assert after.records.find(run.id).status is RunStatus.COMPLETED
    assert after.replicas.open == 0


@in_loop
async def test_the_log_so_far_outlives_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not stored of it is sent again, and is in it once."""
    monkeypatch.setattr(journal, "SAVE_LOG_AFTER_S", 0.0)
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.answer()
    await saved(before, run.id, 1)
    assert given is not None
    tail = LogTail()  # no two of its lines have the same time
    for text in ("first", "second", "third"):
        tail.add(log_line(text, "INFO"))
    first, second, third = tail.lines()
    before.coordinator.report(key_of(given), None, [first])
    while first not in before.records.log(run.id):  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    monkeypatch.setattr(journal, "SAVE_LOG_AFTER_S", 60.0)
    before.coordinator.report(key_of(given), None, [second])
    after = Bench(before.store)
    await after.recover()
    assert after.coordinator.report(key_of(given), None, [third]).repeat
    for repeats in (True, False):
        assert not after.coordinator.report(key_of(given), None, [first, second, third], repeats=repeats).repeat
    await after.finish(call_id, given)
    messages = [line.message for line in after.records.log(run.id)]
    assert messages[1:] == ["first", "second", "third", "the server was started again"]
    assert "no gpu" in messages[0]  # said when it was accepted


@in_loop
async def test_an_attempt_whose_replica_has_died_is_charged_and_repeated() -> None:
    store = MemoryObjectStore()
    bench = Bench(store)
    run = await bench.submit()
    for number in range(1, MAX_ATTEMPTS + 1):
        await bench.answer(f"r{number}")
        await saved(bench, run.id, number)
        bench = Bench(store)
        bench.replicas.gone = {f"r{number}"}
        await bench.recover()
    failed = await bench.coordinator.get(run.id, wait_s=10)
    assert failed.error is not None
    assert failed.error.code == "attempts_exhausted"
    assert [attempt.outcome for attempt in failed.attempt_history] == ["lost"] * MAX_ATTEMPTS


@in_loop
async def test_a_replica_that_dies_after_the_restart_is_noticed() -> None:
    before = Bench()
    run = await before.submit()
    await before.answer()
    await saved(before, run.id, 1)
    after = Bench(before.store)
    await after.recover()
    after.replicas.gone.add("r1")
    _, again, _ = await after.answer("r2")
    assert again is not None
    assert (again.id, again.attempts) == (run.id, 2)


@in_loop
async def test_an_attempt_that_the_crash_hid_is_adopted_by_its_report(monkeypatch: Any) -> None:
    """The coordinator died after it had granted it, and before that was on record."""
    monkeypatch.setattr(journal, "SAVE_AFTER_S", 60.0)
    monkeypatch.setattr(recovery, "ANNOUNCE_S", 60.0)
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.answer()
    assert given is not None
    after = Bench(before.store)
    await after.recover()
    assert after.replicas.open == 0
    assert after.coordinator.report(key_of(given), 0.5, []).go_on
    assert (await after.coordinator.get(run.id)).status is RunStatus.RUNNING
    assert (await after.finish(call_id, given)).counts
    assert [attempt.replica for attempt in after.records.find(run.id).attempt_history] == ["r1"]


@in_loop
async def test_a_hidden_attempt_that_is_late_does_not_count_and_is_told_so() -> None:
    before = Bench()
    run = await before.submit()
    call_id, hidden, _ = await before.answer("r1")
    assert hidden is not None
    store = MemoryObjectStore()
    store.__setstate__({key: before.store._objects[key] for key in before.store._objects})  # type: ignore[attr-defined]
    after = Bench(store)
    await after.recover()
    other_call, again, _ = await after.answer("r2")
    assert again is not None
    assert again.attempts == hidden.attempts
    assert after.coordinator.report(key_of(hidden), 0.5, []).go_on is False
    other = Outcome(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000001",))
    assert not (await after.finish(call_id, hidden, other)).counts
    assert (await after.finish(other_call, again)).counts
    assert after.records.find(run.id).output_dataset_ids == list(DONE.output_dataset_ids)


@in_loop
async def test_an_outcome_that_is_delivered_again_after_the_restart_counts() -> None:
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.answer()
    assert given is not None
    await before.finish(call_id, given)
    after = Bench(before.store)
    await after.recover()
    assert (await after.finish(call_id, given)).counts
    other = Outcome(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000001",))
    assert not (await after.finish(call_id, given, other)).counts
    assert after.records.find(run.id).output_dataset_ids == list(DONE.output_dataset_ids)


@in_loop
async def test_what_dead_replicas_have_posted_is_removed_before_the_open_record_goes() -> None:
    before = Bench()
    run = await before.submit()
    _, given, ended = await before.answer()
    ended.set_exception(ConnectionError("the replica died"))
    call_id, given, _ = await before.answer()
    assert given is not None
    await before.finish(call_id, given)
    while before.records.open_runs():  # nothing tells of it
        assert before.sweeps.tags in ([], [{tag_for(run.id)}])
        await asyncio.sleep(0.01)
    assert before.sweeps.tags == [{tag_for(run.id)}]
    assert before.sweeps.kept == set(DONE.output_dataset_ids)


@in_loop
async def test_a_run_that_no_replica_died_in_costs_no_sweep() -> None:
    bench = Bench()
    await bench.submit()
    await bench.work()
    while bench.coordinator.live_runs():  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    assert bench.sweeps.tags == []


@in_loop
async def test_a_cancellation_outlives_the_coordinator() -> None:
    before = Bench()
    run = await before.submit()
    call_id, given, _ = await before.answer()
    assert given is not None
    await before.coordinator.cancel(run.id)
    after = Bench(before.store)
    await after.recover()
    assert after.coordinator.report(key_of(given), 0.5, []).go_on is False
    await after.finish(call_id, given, Outcome(RunStatus.CANCELLED))
    assert (await after.coordinator.get(run.id)).status is RunStatus.CANCELLED


@in_loop
async def test_a_server_that_is_shut_down_leaves_its_runs_to_the_next_at_once() -> None:
    """The attempt that it ends is not charged."""
    before = Bench(cluster="one")
    running, waiting = await before.submit(), await before.submit()
    _, given, _ = await before.answer()
    assert given is not None
    await before.coordinator.release()
    assert before.coordinator.report(key_of(given), 0.5, []).go_on is False
    with pytest.raises(ServerUnavailableError):
        await before.submit()
    after = Bench(before.store, cluster="two")
    await after.recover()
    assert await after.work() == [running.id, waiting.id]
    history = (await after.coordinator.get(running.id)).attempt_history
    assert [(attempt.outcome, attempt.charged) for attempt in history] == [("lost", False), ("completed", True)]
    assert [stat.key for stat in after.store.list("coordinator/one.")] == [
        "coordinator/one.claim",
        "coordinator/one.json",
    ]
    again = Bench(before.store, cluster="three")
    await again.recover()
    assert list(again.store.list("coordinator/one.")) == []


@in_loop
async def test_a_renewal_that_is_under_way_takes_no_lease_back_that_was_given_back() -> None:
    store = SlowStore()
    bench = Bench(store)
    await bench.recover()
    store.is_slow = True
    await asyncio.to_thread(store.began.wait)
    releasing = asyncio.create_task(bench.coordinator.release())
    await asyncio.sleep(0.01)
    store.go_on.set()
    await releasing
    renewing = bench.coordinator._recovery._renewing
    assert renewing is not None
    await renewing
    assert b"released" in read(store, "coordinator/one.json")


@in_loop
async def test_a_run_that_was_left_to_another_cluster_is_not_recorded_any_more(monkeypatch: Any) -> None:
    """Its record is the other one's, also where the store comes back only now."""
    monkeypatch.setattr(journal, "STORE_RETRY_S", 0.01)
    store = FailingStore()
    bench = Bench(store)
    run = await bench.submit()
    await bench.answer()
    await saved(bench, run.id, 1)
    before = bench.records.open_runs()
    store.down = True
    cancelling = asyncio.create_task(bench.coordinator.cancel(run.id))
    await asyncio.sleep(0)
    bench.coordinator.disown()
    store.down = False
    await cancelling
    assert bench.records.open_runs() == before


@in_loop
async def test_two_clusters_leave_each_others_runs_alone() -> None:
    one = Bench(cluster="one")
    two = Bench(one.store, cluster="two")
    run = await one.submit()
    await two.recover()
    await asyncio.sleep(0.1)  # some looks at the lease
    assert two.replicas.open == 0
    assert await one.work() == [run.id]


@in_loop
async def test_the_runs_of_a_cluster_that_has_died_are_taken_over_by_one_other(monkeypatch: Any) -> None:
    """One that was only away notices, does nothing more about them, and goes on with new ones."""
    monkeypatch.setattr(recovery, "RENEW_S", 3600.0)  # they look when they are told

    async def look(bench: Bench) -> None:
        await bench.coordinator._recovery._look()

    one = Bench(cluster="one")
    run = await one.submit()
    _, given, _ = await one.answer()
    assert given is not None
    await saved(one, run.id, 1)
    one.clock += LEASE_S
    others = [Bench(one.store, cluster=name) for name in ("two", "three")]
    for other in others:
        other.replicas.gone = {"r1"}
        await other.recover()
        other.clock = 1.0
        await look(other)
        other.clock = ownership.HELD_S - 1
        await look(other)
        assert other.coordinator.live_runs() == []
    for other in others:
        for _ in range(4):  # its own lease is held on the way
            other.clock += LEASE_S / 4
            await look(other)
    [heir] = [other for other in others if other.coordinator.live_runs()]
    with pytest.raises(ServerUnavailableError):
        await one.submit()
    await look(one)
    assert one.coordinator.report(key_of(given), 0.5, []).go_on is False
    with pytest.raises(RunNotFoundError):
        await one.coordinator.get(run.id)
    other_outcome = Outcome(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000001",))
    assert not (await one.coordinator.finish("call", AttemptKey(run.id, 1, "r1"), other_outcome, [])).counts
    assert await heir.work() == [run.id]
    assert heir.records.find(run.id).output_dataset_ids == list(DONE.output_dataset_ids)
    assert (await one.submit()).status is RunStatus.PENDING


@in_loop
async def test_the_first_outcome_counts_also_against_another_cluster() -> None:
    one = Bench(cluster="one")
    run = await one.submit()
    call_id, given, _ = await one.answer()
    assert given is not None
    theirs = given.model_copy(update={"status": RunStatus.FAILED})
    assert one.records.end(theirs, []) is None
    assert not (await one.finish(call_id, given)).counts
    assert (await one.coordinator.get(run.id)).status is RunStatus.FAILED
    assert one.records.find(run.id) == theirs


def test_a_claim_is_seen_that_comes_while_the_lease_is_taken() -> None:
    class Store(MemoryObjectStore):
        def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
            super().put(key, data, if_absent=if_absent)
            if key == "coordinator/one.json":
                super().put("coordinator/one.claim", b'{"heir": "two"}')

    one = Ownership(Store(), "one")
    one.join()
    assert one.id == "one-1"


def test_a_cluster_whose_claim_was_removed_inherits_nothing_to_anybody() -> None:
    """It may have come back under the same id."""
    store = MemoryObjectStore()
    store.put("coordinator/one.claim", b'{"heir": "two"}')
    two, three = Ownership(store, "two"), Ownership(store, "three")
    for each in (two, three):
        each.join()
        each.inherit()
    two.forget([])
    Ownership(store, "one").join()
    two.release()
    assert three.inherit()
    assert three.owns("two")
    assert not three.owns("one")


def test_a_store_that_was_away_makes_no_lease_old() -> None:
    store = MemoryObjectStore()
    Ownership(store, "one").join()
    time = [0.0]
    two = Ownership(store, "two", lambda: time[0])
    two.join()
    assert not two.inherit()
    time[0] = LEASE_S - 1
    two.renew()
    assert not two.inherit()
    time[0] = LEASE_S
    two.renew()
    assert two.inherit()
    assert two.owns("one")
    assert not two.inherit()
