"""What is imported, whatever fails, and however many clusters do it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

import pytest

from t3d_server.errors import StoreUnavailableError
from t3d_server.run_store.former import batches
from t3d_server.run_store.former.objects import DONE, OPEN
from tests.run_store.former.bench import TIMINGS, Importer, Store, assert_imported, former_bucket, in_loop, load, moved


@in_loop
async def test_everything_is_imported_and_the_former_objects_go() -> None:
    store = former_bucket()
    importer = Importer(store)
    await importer.run()
    assert_imported(store)
    assert importer.adopted > 0
    state = load(store)
    assert [sum(page.counts.values()) for page in state.pages.values()] == [6, 6, 6]
    assert len(state.ended) == 1
    assert [stat.key.rpartition("~")[2] for stat in store.list("runs/logs/")] == ["former.jsonl"]


@in_loop
async def test_a_bucket_without_the_former_layout_costs_three_listings_once() -> None:
    store = Store()
    importer = Importer(store)
    await importer.log.start()
    before = store.calls
    assert not await importer.layout.step()
    assert store.calls == before + 3
    assert not await importer.layout.step()
    assert store.calls == before + 3


@in_loop
async def test_memory_is_bounded_by_a_page() -> None:
    """No more records are read than one page takes before they are stored."""
    store = former_bucket()
    await Importer(store).run()
    assert store.most_unstored_reads == TIMINGS.page_runs


@in_loop
async def test_each_record_is_read_once() -> None:
    store = former_bucket()
    await Importer(store).run()
    assert {count for key, count in store.reads.items() if key.startswith((DONE, OPEN))} == {1}


@pytest.mark.parametrize("applies", ["no", "half", "yes"])
def test_a_crash_at_any_change_of_the_store_changes_nothing(
    applies: Literal["no", "half", "yes"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another cluster goes on, and the end is the same. Calls that only read leave what the one before has left."""
    monkeypatch.setattr(batches, "BATCH", 5)

    async def crashed(fails_at: int) -> Store:
        store = former_bucket(Store(fails_at, applies=applies))
        importer = Importer(store)
        with suppress(StoreUnavailableError):
            await importer.run(until=lambda: store.is_away)
        return store

    async def resumed(store: Store) -> None:
        await Importer(store, "second").run()

    fails_at = 0
    while True:
        fails_at += 1
        store = asyncio.run(crashed(fails_at))
        left = moved(store)
        asyncio.run(resumed(left))
        assert_imported(left, ("new", "second"))
        if not store.is_away:
            break
    assert fails_at > 30


@in_loop
async def test_clusters_that_import_at_the_same_time_import_each_run_once() -> None:
    store = former_bucket()
    importers = [Importer(store, f"new-{number}") for number in range(3)]
    await asyncio.gather(*(importer.run() for importer in importers))
    assert_imported(store, [f"new-{number}" for number in range(3)])
