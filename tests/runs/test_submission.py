"""Submissions whose answer from the store is late or lost: each is one run that begins, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from t3d_server.errors import RunNotFoundError, ServerUnavailableError, StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.run_store.events import Withdrawn
from tests.run_store.stores import FaultyStore
from tests.runs.bench import Bench, events_of, in_loop, until


class LostAnswers(FaultyStore):
    """A store that applies the next put of a segment, loses its answer, and is down then until `down` is unset."""

    def __init__(self) -> None:
        super().__init__()
        self.loses = False

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        if self.loses:
            self.loses, self.down = False, True
            raise StoreUnavailableError("the answer was lost")


async def unanswered(bench: Bench, store: LostAnswers, run_id: str, key: str | None) -> None:
    """Submit a run whose event is stored while its client gets an error."""
    await bench.start()
    await bench.look()
    store.loses = True
    with pytest.raises(StoreUnavailableError):
        await bench.submit(run_id, key)
    store.down = False


@in_loop
async def test_a_run_with_a_key_whose_answer_was_lost_is_given_when_it_is_repeated_and_begins() -> None:
    bench = Bench(store := LostAnswers())
    run_id = new_id()
    await unanswered(bench, store, run_id, "k")
    await until(lambda: run_id not in bench.runs._submissions)
    assert (await bench.submit(key="k")).id == run_id
    assert await bench.work() == [run_id]


@in_loop
async def test_a_run_without_a_key_whose_answer_was_lost_never_begins() -> None:
    """Neither here, nor after a restart; nothing lists it."""
    bench = Bench(store := LostAnswers())
    run_id = new_id()
    await unanswered(bench, store, run_id, None)
    await until(lambda: any(isinstance(event, Withdrawn) for event in events_of(store)))
    for again in (False, True):
        each = await Bench(store).start() if again else bench
        assert await each.ids() == []
        assert each.replicas.open == 0
        with pytest.raises(RunNotFoundError):
            await each.get(run_id)


@pytest.mark.parametrize("key", [None, "k"])
@in_loop
async def test_a_run_whose_event_was_not_sent_is_taken_back(key: str | None) -> None:
    """The writer is busy with what came before, for as long as the store is away."""
    bench = Bench(store := FaultyStore())
    await bench.start()
    await bench.look()
    store.down = True
    sent = asyncio.create_task(bench.submit(key="sent"))
    await until(lambda: sent.done() or (not bench.runs._log._waiting and bench.runs._submissions._arrivals))
    with pytest.raises(StoreUnavailableError):
        await bench.submit(key=key)
    store.down = False
    with pytest.raises(StoreUnavailableError):
        await sent
    await until(lambda: len(bench.state().open) == 1)
    assert len(await bench.work()) == 1
    assert len(bench.state().ended) == 1


@in_loop
async def test_a_run_that_was_refused_takes_no_room_and_can_be_submitted_again() -> None:
    bench = Bench(store := LostAnswers())
    run_id = new_id()
    await unanswered(bench, store, run_id, None)
    await until(lambda: run_id not in bench.runs._submissions)
    again = await bench.submit(run_id)
    assert again.queue_position == 0
    assert await bench.work() == [run_id]


@in_loop
async def test_a_run_that_is_being_accepted_while_the_store_is_away_cannot_be_cancelled_yet() -> None:
    bench = Bench(store := FaultyStore())
    await bench.start()
    await bench.look()
    store.down = True
    run_id = new_id()
    with pytest.raises(StoreUnavailableError):
        await bench.submit(run_id, "k")
    with pytest.raises(StoreUnavailableError):
        await bench.runs.cancel(run_id=run_id)


@in_loop
async def test_nothing_is_accepted_after_a_release() -> None:
    bench = await Bench().start()
    await bench.runs.release()
    with pytest.raises(ServerUnavailableError):
        await bench.submit()
