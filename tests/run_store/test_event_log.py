"""The log: batches in one order, no answer before it is on record, and fences without clocks."""

from __future__ import annotations

import asyncio

import pytest

from t3d_server.errors import StoreUnavailableError
from t3d_server.models import Run
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import Append, EventLog
from t3d_server.run_store.events import Claimed, decode
from t3d_server.run_store.records import FencedError, KeyHeldError, NotOwnedError
from t3d_server.run_store.timings import Timings
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS, segment_key
from t3d_server.storage.memory import MemoryObjectStore
from tests.run_store.examples import a_run, accepted, has_ended
from tests.run_store.stores import FaultyStore, GatedStore
from tests.runs.bench import TIMINGS, Clock, in_loop, on_record, timings, until


class Log(EventLog):
    """A log that counts how often it was fenced."""

    def __init__(self, store: ObjectStore, cluster: str = "one", timings: Timings = TIMINGS) -> None:
        self.fences = 0
        self.time = Clock()
        super().__init__(store, cluster, clock=self.time, executor=None, timings=timings, fenced=self._count)

    def _count(self) -> None:
        self.fences += 1

    async def begun(self) -> Log:
        await self.start()
        return self

    def accept(self, run: Run | None = None) -> Append:
        return self.append(accepted(run or a_run()))

    async def snapshot(self) -> None:
        await Compactor(self, self._store, clock=self.time, timings=TIMINGS).snapshot()


def numbers(store: ObjectStore) -> list[int]:
    return [int(stat.key.removeprefix(RUN_EVENTS).removesuffix(".jsonl")) for stat in store.list(RUN_EVENTS)]


async def failed(append: Append) -> bool:
    """Whether an event is known not to be on record, as its process was fenced."""
    await asyncio.wait([append.done])
    return isinstance(append.done.exception(), FencedError)


@in_loop
async def test_what_comes_while_a_segment_is_on_its_way_goes_with_the_next_one() -> None:
    """One is on its way at a time, and nobody learns of an event before its segment is stored."""
    log = await Log(store := GatedStore()).begun()
    store.close()
    first = log.accept()
    await until(lambda: store.waiting)
    rest = [log.accept() for _ in range(20)]
    await asyncio.sleep(0.01)
    assert (store.waiting, first.done.done(), numbers(store)) == (1, False, [1])
    store.open()
    await asyncio.gather(*(log.stored(append) for append in [first, *rest]))
    assert numbers(store) == [1, 2, 3]
    _, events = decode(read(store, segment_key(3)))
    assert events == [append.event for append in rest]


@in_loop
async def test_a_segment_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t3d_server.run_store.event_log.MAX_SEGMENT_BYTES", 1)
    log = await Log(store := MemoryObjectStore()).begun()
    await asyncio.gather(*(log.stored(log.accept()) for _ in range(3)))
    assert numbers(store) == [1, 2, 3, 4]


@in_loop
async def test_a_segment_whose_answer_was_lost_is_stored_once() -> None:
    log = await Log(store := FaultyStore()).begun()
    store.applied = 1
    run = a_run()
    append = log.accept(run)
    with pytest.raises(StoreUnavailableError):
        await log.stored(append)  # for now it is not known
    await append.done
    assert numbers(store) == [1, 2]
    assert list(on_record(store).open) == [run.id] == list(log.state.open)


@in_loop
async def test_what_could_not_be_stored_is_stored_when_the_store_is_back() -> None:
    """In order, and what comes meanwhile fails at once for who waits for it."""
    log = await Log(store := FaultyStore()).begun()
    store.down = True
    appends = [log.accept()]
    with pytest.raises(StoreUnavailableError):
        await log.stored(appends[0])
    appends += [log.accept() for _ in range(3)]
    with pytest.raises(StoreUnavailableError):
        await log.stored(appends[-1])
    store.down = False
    await asyncio.gather(*(append.done for append in appends))
    assert list(on_record(store).open) == [append.event.run.id for append in appends]  # type: ignore[union-attr]


@in_loop
async def test_what_was_not_sent_can_be_taken_back_and_what_was_sent_cannot() -> None:
    log = await Log(store := GatedStore()).begun()
    store.close()
    sent = log.accept()
    await until(lambda: store.waiting)
    kept, taken = log.accept(), log.accept()
    assert log.retract(taken)
    assert not log.retract(sent)
    store.open()
    await log.stored(kept)
    assert not log.retract(kept)
    with pytest.raises(StoreUnavailableError):
        await log.stored(taken)
    assert len(on_record(store).open) == 2


@in_loop
async def test_two_clusters_write_one_log_in_one_order() -> None:
    store = MemoryObjectStore()
    one, two = await Log(store, "one").begun(), await Log(store, "two").begun()
    appends = [log.accept() for _ in range(10) for log in (one, two)]
    await asyncio.gather(*(append.done for append in appends))
    for log in (one, two):
        await log.catch_up()
    await one.catch_up()
    assert one.state.dump() == on_record(store).dump()
    assert len(one.state.open) == 20
    assert numbers(store) == list(range(1, one.state.seq + 1))
    assert (one.fences, two.fences) == (0, 0)


@in_loop
async def test_an_event_that_comes_too_late_fails_by_what_another_cluster_has_written() -> None:
    store = MemoryObjectStore()
    one, two = await Log(store, "one").begun(), await Log(store, "two").begun()
    run = a_run()
    await one.stored(one.append(accepted(run, "aa" * 32)))
    with pytest.raises(KeyHeldError):
        await two.stored(two.append(accepted(a_run(), "aa" * 32)))
    with pytest.raises(NotOwnedError):
        await two.stored(two.append(has_ended(run)))


async def fenced_by_a_restart(store: ObjectStore) -> None:
    await Log(store, "one").begun()


async def fenced_by_a_claim(store: ObjectStore) -> None:
    other = await Log(store, "two").begun()
    await other.append(Claimed(cluster="one")).done


FENCING = pytest.mark.parametrize("fence", [fenced_by_a_restart, fenced_by_a_claim])


@FENCING
@in_loop
async def test_a_process_that_was_replaced_writes_nothing_more(fence: object) -> None:
    """What is on its way, what waits, and what comes later fails."""
    old = await Log(store := GatedStore()).begun()
    store.close(old.process)
    in_flight = old.accept()
    await until(lambda: store.waiting)
    waiting = old.accept()
    await fence(store)  # type: ignore[operator]
    store.open()
    assert [await failed(append) for append in (in_flight, waiting)] == [True, True]
    assert (old.fences, old.is_member, old.is_confirmed) == (1, False, False)
    assert await failed(old.accept())
    assert on_record(store).open == {}
    if fence is fenced_by_a_restart:
        with pytest.raises(FencedError):
            await old.rejoin()
    else:
        await old.rejoin()
    assert old.is_member == (fence is not fenced_by_a_restart)


@FENCING
@in_loop
async def test_a_segment_that_comes_late_counts_only_before_the_fence(fence: object) -> None:
    """Its answer was lost, and another process has taken over by then: it knows what has become of it."""
    old = await Log(store := FaultyStore(), timings=timings(store_retry_s=0.05)).begun()
    store.applied = 1
    run = a_run()
    append = old.accept(run)
    await asyncio.wait([append.delayed])
    await fence(store)  # type: ignore[operator]
    await append.done  # it came before the fence, and is on record
    assert await failed(old.accept())
    assert list(on_record(store).open) == [run.id]


@FENCING
@in_loop
async def test_a_process_whose_next_number_was_removed_is_fenced_by_what_is_kept(fence: object) -> None:
    old = await Log(store := MemoryObjectStore()).begun()
    await old.stored(old.accept())
    await fence(store)  # type: ignore[operator]
    heir = await Log(store, "heir").begun()
    [*others] = [cluster for cluster in heir.state.members if cluster != "heir"]
    for cluster in others:
        await heir.append(Claimed(cluster=cluster)).done
    for _ in range(5):
        await heir.catch_up()
    await heir.snapshot()
    assert numbers(store)[-1] - len(numbers(store)) > 0  # some were removed
    before = numbers(store)
    assert await failed(old.accept())
    assert (old.fences, numbers(store)) == (1, before)


@in_loop
async def test_a_process_that_was_away_for_long_joins_anew_at_the_end_of_the_log() -> None:
    old = await Log(store := MemoryObjectStore()).begun()
    heir = await Log(store, "two").begun()
    await heir.append(Claimed(cluster="one")).done
    for _ in range(5):
        await heir.catch_up()
    await heir.snapshot()
    with pytest.raises(FencedError):
        await old.catch_up()
    for _ in range(3):  # as it is repeated
        if not old.is_member:
            await asyncio.wait([asyncio.create_task(old.join())])
    assert old.is_confirmed
    run = a_run()
    await old.stored(old.accept(run))
    await heir.catch_up()
    assert heir.state.open[run.id].owner == "one"
    assert heir.state.dump() == on_record(store).dump()


@in_loop
async def test_no_number_is_removed_that_a_member_may_write() -> None:
    """However long it is idle, another cluster's snapshots leave the segments after its own."""
    store = MemoryObjectStore()
    one, two = await Log(store, "one").begun(), await Log(store, "two").begun()
    for _ in range(5):
        await two.catch_up()
    await two.snapshot()
    run = a_run()
    await one.stored(one.accept(run))
    await two.catch_up()
    assert list(two.state.open) == [run.id]
    assert one.fences == 0


@in_loop
async def test_a_restart_reads_a_snapshot_and_the_segments_after_it() -> None:
    log = await Log(store := MemoryObjectStore()).begun()
    runs = [a_run() for _ in range(3)]
    for run in runs[:2]:
        await log.stored(log.accept(run))
    await log.snapshot()
    await log.stored(log.accept(runs[2]))
    again = await Log(store).begun()
    assert list(again.state.open) == [run.id for run in runs]
    assert again.snapshot_seq == 3


@in_loop
async def test_a_log_that_lacks_a_segment_is_an_error() -> None:
    log = await Log(store := MemoryObjectStore()).begun()
    for _ in range(3):
        await log.stored(log.accept())
    store.delete(segment_key(3))
    with pytest.raises(StoreUnavailableError, match=segment_key(3)):
        await Log(store).start()


@in_loop
async def test_an_idle_log_writes_heartbeats() -> None:
    log = await Log(store := MemoryObjectStore(), timings=timings(heartbeat_s=0.01)).begun()
    await until(lambda: len(numbers(store)) > 3)
    assert log.state.members["one"].segment > 1


@in_loop
async def test_a_place_is_relied_on_for_a_while_after_the_end_of_the_log_was_seen() -> None:
    log = await Log(MemoryObjectStore()).begun()
    assert log.is_confirmed
    log.time.ahead_s += TIMINGS.confirmed_s
    assert (log.is_confirmed, log.is_member) == (False, True)
    await log.catch_up()
    assert log.is_confirmed


@in_loop
async def test_a_write_confirms_the_moment_in_which_it_began() -> None:
    """In the time that it took another process may have written."""
    log = await Log(store := GatedStore()).begun()
    store.close()
    append = log.accept()
    await until(lambda: store.waiting)
    log.time.ahead_s += TIMINGS.confirmed_s
    store.open()
    await append.done
    assert not log.is_confirmed


@in_loop
async def test_a_cluster_that_leaves_writes_what_waits_and_then_no_more() -> None:
    log = await Log(store := MemoryObjectStore()).begun()
    appends = [log.accept() for _ in range(3)]
    await log.leave()
    assert [append.done.exception() for append in appends] == [None] * 3
    assert on_record(store).members["one"].left
    assert await failed(log.accept())


@in_loop
async def test_nothing_waits_for_ever_that_comes_while_a_cluster_leaves() -> None:
    log = await Log(store := GatedStore()).begun()
    store.close()
    leaving = asyncio.create_task(log.leave())
    await until(lambda: store.waiting)
    late = [log.accept()]
    await asyncio.sleep(0)
    store.open()
    await leaving
    await asyncio.wait([append.done for append in late], timeout=5)
    assert [append.done.done() for append in late] == [True]
