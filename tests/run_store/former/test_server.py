"""A server on a bucket of the former layout: its runs go on, and are found."""

from __future__ import annotations

import asyncio

import pytest

from t3d_server.errors import ExpiredError
from t3d_server.ids import tag_for
from t3d_server.models import RunStatus
from t3d_server.runs.admission import key_hash
from tests.run_store.former.bench import NAMES, OPEN_NAMES, expected, former_bucket, in_loop
from tests.run_store.former.server import Server, assert_found


@in_loop
async def test_open_runs_go_on_and_end_once_and_ended_ones_are_found() -> None:
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    await assert_found(server)  # nothing is imported yet
    await server.imported(store)
    await assert_found(server)
    ends = {name: await server.scheduler.get(run_id=NAMES[name], wait_s=10) for name in OPEN_NAMES}
    assert {name: run.status for name, run in ends.items()} == {
        "claimed": RunStatus.COMPLETED,
        "pending": RunStatus.COMPLETED,
        "running": RunStatus.COMPLETED,
        "cancelling": RunStatus.CANCELLED,
    }
    assert server.executed == {NAMES[name]: 1 for name in ("claimed", "pending", "running")}
    assert [attempt.outcome for attempt in ends["running"].attempt_history] == ["lost", "completed"]
    assert (await server.log(NAMES["running"]))[0].message == "half way"

    again = Server(store, "newer")
    again.clock.passed_s = server.clock.passed_s
    await server.scheduler.release()
    await again.scheduler.start()
    await assert_found(again)
    assert await again.find(NAMES["running"]) == ends["running"]
    assert not again.executed


@in_loop
async def test_lists_have_all_runs() -> None:
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    await server.imported(store)
    live = await server.scheduler.list(limit=100)
    paged, more = server.history.newest(limit=100, snapshot_seq=live.snapshot_seq)
    assert {run.id for run in [*live.runs, *paged]} == set(expected())
    assert not more
    of_blur, _ = server.history.newest(limit=100, algorithm="blur", status=RunStatus.FAILED)
    failed = [stored.run for stored in expected(()).values() if stored.run.status is RunStatus.FAILED]
    listed = await server.scheduler.list(limit=100, algorithm="blur", status=RunStatus.FAILED)
    assert {run.id for run in [*of_blur, *listed.runs]} == {run.id for run in failed if run.algorithm == "blur"}


@pytest.mark.parametrize("imported", [True, False])
@in_loop
async def test_a_key_gives_the_run_that_was_submitted_with_it(imported: bool) -> None:
    """Also before the import of that run, whether it has ended or is left to a server that is alive."""
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    if imported:
        await server.imported(store)
    by_key = {stored.key: stored.run for stored in expected().values()}
    for number in (0, 4, 8, 12, 16, 100, 101, 102, 103, 104):
        run = by_key[key_hash(f"key-{number}")]
        assert (await server.submit(number, run.algorithm, f"key-{number}")).id == run.id
    new = await server.submit(3, "blur", "key-3")
    assert new.id not in expected()


@in_loop
async def test_datasets_of_a_run_are_swept_whose_outcome_was_stored_and_no_more() -> None:
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    await server.imported(store)
    server.clock.passed_s += 60.0
    while not server.datasets.swept:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)
    assert tag_for(NAMES["unfiled"]) in server.datasets.swept


@in_loop
async def test_a_run_that_expired_before_its_import_is_gone() -> None:
    store = former_bucket()
    server = Server(store, keep_s=10.0)
    server.clock.passed_s = 20.0
    await server.scheduler.start()
    with pytest.raises(ExpiredError):
        await server.find(next(iter(expected(()))))
