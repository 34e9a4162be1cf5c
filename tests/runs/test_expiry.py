"""What has expired is removed, with all that belongs to it, and nothing that a run needs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import ExpiredError, RunNotFoundError
from t3d_server.ids import first_id, new_id
from t3d_server.models import Run, RunStatus, utc_now
from t3d_server.runs import sweep
from t3d_server.runs.records import KeyHolder, Record, RunRecords
from t3d_server.runs.sweep import Sweep
from t3d_server.storage.memory import MemoryObjectStore
from t3d_server.storage.retention import SLACK_S

KEEP_S = 3600.0


def an_id(age_s: float) -> str:
    """An id that was made so long ago."""
    return first_id(datetime.now(UTC) - timedelta(seconds=age_s)) + new_id()[13:]


OLD, YOUNG = 2 * KEEP_S, KEEP_S / 2


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def records(store: MemoryObjectStore) -> RunRecords:
    return RunRecords(store, keep_s=KEEP_S, keep_logs_s=KEEP_S / 4)


@pytest.fixture
def datasets(store: MemoryObjectStore, tmp_path: Path) -> DatasetStore:
    return DatasetStore(store, scratch=tmp_path, max_dataset_bytes=0, keep_s=KEEP_S)


def record(age_s: float, *inputs: str, key: str = "") -> Record:
    run = Run(
        id=an_id(age_s),
        algorithm="blur",
        version="1.0.0",
        resolved_device="cpu",
        status=RunStatus.COMPLETED,
        input_dataset_ids=list(inputs),
        created_at=utc_now(),
    )
    return Record.of(run, owner="one", key=key)


def keys(store: MemoryObjectStore, prefix: str) -> list[str]:
    return [stat.key for stat in store.list(prefix)]


def test_an_expired_run_goes_with_all_that_belongs_to_it(
    store: MemoryObjectStore, records: RunRecords, datasets: DatasetStore
) -> None:
    """But for a key that has come to stand for another run; the log of a younger one may go before."""
    old, other, young = record(OLD, key="a"), record(OLD, key="b"), record(YOUNG, key="c")
    for run in (old, other, young):
        records.hold_key(run.key, KeyHolder(run_id=young.id if run is other else run.id, request_sha256=""))
        store.put(f"runs/logs/{run.id}.jsonl", b"")
        records.end(run, [])
        records.file(run)
    asyncio.run(Sweep(records, datasets, list).once())

    assert [key for key in keys(store, "runs/") if young.id not in key] == ["runs/keys/b.json", "runs/keys/c.json"]
    assert records.find(young.id) == young.run()
    with pytest.raises(ExpiredError, match="T3D_KEEP_RUNS_S"):
        records.find(old.id)
    with pytest.raises(ExpiredError, match="T3D_KEEP_LOGS_S"):
        records.log(young.id)
    with pytest.raises(RunNotFoundError):
        records.find(an_id(YOUNG))


def test_what_open_runs_need_stays(store: MemoryObjectStore, records: RunRecords, datasets: DatasetStore) -> None:
    """Inputs of runs of any cluster, and a run that is not filed yet: without its end it would be repeated."""
    mine, theirs, unneeded = [an_id(OLD) for _ in range(3)]
    just_expired, young = an_id(KEEP_S + SLACK_S / 2), an_id(YOUNG)
    for dataset_id in (mine, theirs, unneeded, just_expired, young):
        store.put(f"datasets/{dataset_id}.h5", b"")
    records.save(record(OLD, theirs))
    unfiled = record(OLD)
    records.save(unfiled)
    records.end(unfiled, [])
    live = record(OLD, mine).run()
    asyncio.run(Sweep(records, datasets, lambda: [live]).once())

    left = {mine, theirs, just_expired, young}
    assert keys(store, "datasets/") == sorted(f"datasets/{dataset_id}.h5" for dataset_id in left)
    assert records.find(unfiled.id) == unfiled.run()
    with pytest.raises(ExpiredError, match="T3D_KEEP_DATASETS_S"):
        datasets.size(unneeded)
    assert datasets.size(mine) == 0
    with pytest.raises(ExpiredError):
        datasets.require(mine)


def test_what_nobody_has_used_expires_by_when_it_was_stored(
    store: MemoryObjectStore, records: RunRecords, datasets: DatasetStore
) -> None:
    """Uploads, names of datasets, and keys whose runs were never recorded; the key of an open run stays."""
    mine, never = record(OLD, key="mine"), record(OLD, key="never")
    records.save(mine)
    for run in (mine, never):
        records.hold_key(run.key, KeyHolder(run_id=run.id, request_sha256=""))
    for name in ("old", "anew"):
        store.put(f"uploads/v0/{name}", b"")
        store.put(f"names/v0/{name}.json", b"{}")
    for key in [*keys(store, "uploads/"), *keys(store, "names/"), *keys(store, "runs/keys/")]:
        if "anew" not in key:
            stat = store.stat(key)
            store._stats[key] = replace(stat, stored_at=stat.stored_at - timedelta(seconds=OLD))
    asyncio.run(Sweep(records, datasets, list).once())

    assert keys(store, "runs/keys/") == ["runs/keys/mine.json"]
    assert keys(store, "uploads/") == ["uploads/v0/anew"]
    assert keys(store, "names/") == ["names/v0/anew.json"]


def test_a_pass_is_bounded_and_tells_of_more(
    store: MemoryObjectStore, records: RunRecords, datasets: DatasetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "LIMIT", 2)
    for _ in range(3):
        records.end(record(OLD), [])
        store.put(f"datasets/{an_id(OLD)}.h5", b"")
    once = Sweep(records, datasets, list).once
    assert asyncio.run(once())
    assert (len(keys(store, "runs/")), len(keys(store, "datasets/"))) == (1, 1)
    assert not asyncio.run(once())
    assert (keys(store, "runs/"), keys(store, "datasets/")) == ([], [])
