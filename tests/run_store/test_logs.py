"""Logs that are objects of their own."""

from __future__ import annotations

from t3d_server.models import RunStatus
from t3d_server.run_store.logs import SMALL_LOG_BYTES, StoredLog, read_log, size_bytes, write_log
from t3d_server.runs.interface import Lines
from t3d_server.storage.keys import RUN_LOGS
from t3d_server.storage.memory import MemoryObjectStore
from tests.runs.bench import Bench, in_loop, line_of, lines_of, until


def test_a_log_is_read_as_it_was_written() -> None:
    store = MemoryObjectStore()
    log = StoredLog(attempt=2, heard=1, lines=[line_of("one\ntwo\u2028\x85"), line_of("")])
    write_log(store, "run~p", log)
    assert read_log(store, "run~p") == log


def test_a_log_that_was_removed_is_empty() -> None:
    assert read_log(MemoryObjectStore(), "run~p") == StoredLog()


@in_loop
async def test_a_small_log_is_with_its_run_and_leaves_no_object() -> None:
    """Not even that which was stored while the run went on."""
    bench = Bench(store := MemoryObjectStore())
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.report(given, None, lines_of("hello"))
    await until(lambda: bench.stored(run.id).log)
    assert list(store.list(RUN_LOGS))
    await bench.finish(call_id, given)
    await until(lambda: not list(store.list(RUN_LOGS)))
    assert [line.message for line in bench.stored(run.id).lines][-1] == "hello"


@in_loop
async def test_a_long_log_is_an_object_of_its_own() -> None:
    bench = Bench(store := MemoryObjectStore())
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    lines = [line_of("x" * 1000) for _ in range(20)]
    assert size_bytes(lines) > SMALL_LOG_BYTES
    await bench.finish(call_id, given, lines=Lines(0, lines))
    stored = bench.stored(run.id)
    assert (stored.lines, stored.run.status) == ([], RunStatus.COMPLETED)
    assert [line.message for line in await bench.runs.log(run_id=run.id)][1:] == [line.message for line in lines]
    await until(lambda: len(list(store.list(RUN_LOGS))) == 1)
