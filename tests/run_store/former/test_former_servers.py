"""Servers of the former version that are alive, come back, or are gone; and what is not imported."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from t3d_server.ids import new_id, time_of
from t3d_server.models import RunStatus
from t3d_server.run_store.former.objects import DONE, done_key, open_key
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.retention import SLACK_S
from tests.run_store.former.bench import (
    FORMER_FOLDERS,
    MADE,
    NAMES,
    OBJECTS,
    OPEN_NAMES,
    Importer,
    assert_imported,
    expected,
    former_bucket,
    in_loop,
    stored_runs,
)


class FormerServer:
    """A server of the former version, as far as others see it."""

    def __init__(self, store: ObjectStore, cluster: str) -> None:
        self.store = store
        self.cluster = cluster
        self.renew()

    def renew(self) -> None:
        self.store.put(f"coordinator/{self.cluster}.json", json.dumps({"renewal": new_id()}).encode())

    def claim(self, cluster: str) -> None:
        content = json.dumps({"heir": self.cluster}).encode()
        self.store.put(f"coordinator/{cluster}.claim", content, if_absent=True)

    def end(self, run_id: str) -> None:
        """Store an outcome, and file it."""
        record = json.loads(read(self.store, open_key(run_id)))
        record |= {"status": "COMPLETED", "ended_at": MADE.isoformat(), "progress": 1.0, "owner": self.cluster}
        self.store.put(done_key(run_id), json.dumps(record).encode(), if_absent=True)
        self.store.delete(open_key(run_id))


@in_loop
async def test_the_runs_of_a_server_that_is_alive_are_left_to_it() -> None:
    """Those that it ends are imported when they have, nothing is removed, and the others follow when it is gone."""
    store = former_bucket()
    server = FormerServer(store, "fourth")
    server.claim("second")
    importer = Importer(store)
    await importer.log.start()

    async def look(times: int = 12) -> None:
        for _ in range(times):
            server.renew()
            while await importer.layout.step():
                pass
            importer.clock.passed_s += 4.0

    await look()
    ended = {run_id for run_id, stored in expected().items() if stored.run.status.ended}
    assert set(stored_runs(store)) == ended
    assert not importer.log.state.open
    assert {key for key in OBJECTS if key.startswith("runs/")} <= {stat.key for stat in store.list("runs/")}
    assert sum(page for key, page in store.reads.items() if key.startswith(DONE)) == len(ended)

    server.end(NAMES["pending"])
    await look(2)
    assert importer.log.state.ended[NAMES["pending"]].run.status is RunStatus.COMPLETED
    assert not importer.log.state.open

    for _ in range(20):
        while await importer.layout.step():
            pass
        importer.clock.passed_s += 4.0
    assert importer.objects.is_empty
    assert set(importer.log.state.open) == {NAMES[name] for name in OPEN_NAMES} - {NAMES["pending"]}
    assert set(stored_runs(store)) == set(expected())


@in_loop
async def test_a_server_that_was_shut_down_is_not_waited_for() -> None:
    store = former_bucket()
    for cluster in ("first", "second"):
        store.put(f"coordinator/{cluster}.json", b'{"released": true}')
    importer = Importer(store)
    await importer.log.start()
    await importer.layout.step()
    assert set(importer.log.state.open) == {NAMES[name] for name in OPEN_NAMES}


@in_loop
async def test_a_server_that_comes_back_finds_its_claim_until_its_lease_is_gone() -> None:
    """Else it would go on with runs that are another's."""
    store = former_bucket()
    importer = Importer(store)
    await importer.run(until=lambda: bool(importer.log.state.open))
    claims = {stat.key: read(store, stat.key) for stat in store.list("coordinator/") if stat.key.endswith(".claim")}
    heirs = {key: json.loads(content)["heir"] for key, content in claims.items()}
    assert heirs == {
        "coordinator/first.claim": "second",
        "coordinator/second.claim": "runs/log/",
        "coordinator/third.claim": "runs/log/",
    }


@in_loop
async def test_a_server_that_comes_while_all_is_removed_stops_that() -> None:
    store = former_bucket()
    importer = Importer(store)
    done = len([key for key in OBJECTS if key.startswith(DONE)])
    await importer.run(until=lambda: sum(n for key, n in store.reads.items() if key.startswith(DONE)) >= done)
    FormerServer(store, "fourth")
    for _ in range(3):
        await importer.layout.step()
        importer.clock.passed_s += 4.0
    assert {key for key in OBJECTS if key.startswith("runs/")} <= {stat.key for stat in store.list("runs/")}
    await importer.run()
    assert_imported(store)


@in_loop
async def test_what_has_expired_is_removed_and_not_imported() -> None:
    store = former_bucket()
    runs = sorted(run_id for run_id, stored in expected().items() if stored.run.status.ended)
    importer = Importer(store, keep_s=100.0)
    importer.clock.passed_s = (time_of(runs[5]) - MADE).total_seconds() + 100.0 + SLACK_S - 1.0 - 16.0
    store.put("coordinator/second.json", b'{"released": true}')
    while importer.clock.now() < time_of(runs[5]) + timedelta(seconds=100.0 + SLACK_S):
        importer.clock.passed_s += 0.001
    await importer.run()
    assert set(stored_runs(store)) == set(runs[5:]) | {NAMES[name] for name in OPEN_NAMES}
    assert not list(store.list(DONE))


@in_loop
async def test_a_record_that_cannot_be_read_stays_and_hinders_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = former_bucket()
    run_id = next(run_id for run_id, stored in expected().items() if stored.lines and stored.run.status.ended)
    store.put(done_key(run_id), b"{")
    importer = Importer(store)
    await importer.run()
    assert set(stored_runs(store)) == set(expected()) - {run_id}
    former = [stat.key for folder in (*FORMER_FOLDERS, "runs/logs/") for stat in store.list(folder)]
    assert [key for key in former if "~" not in key] == [done_key(run_id), f"runs/logs/{run_id}.jsonl"]
    assert f"run {run_id} of the former layout cannot be read" in caplog.text


# The scheduler
