# mypy: ignore-errors
# ruff: noqa: I001
"""Makes `bucket.json`: a bucket as the version before the log of events left it, by that version's own code.

Run once, in a checkout of commit 85cde65, which has the `t3d_server` and the `tests` that are imported here:

    PYTHONPATH=. python make_bucket.py bucket.json

Cluster "first" died, and "second" claimed its runs and died too; "third" was shut down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from t3d_server.ids import new_id
from t3d_server.models import RunFailure, RunRequest, RunStatus
from t3d_server.models import utc_now as now
from t3d_server.runs import journal, recovery
from t3d_server.runs.executor import Outcome
from t3d_server.runs.log import LogTail, log_line
from t3d_server.runs.records import v0_key
from t3d_server.storage.base import read
from t3d_server.storage.memory import MemoryObjectStore
from tests.runs import bench

ALGORITHMS = ("blur", "register", "segment")
OUTCOMES = (
    Outcome(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000000",)),
    Outcome(RunStatus.FAILED, error=RunFailure(code="algorithm_error", type="ValueError", message="no such axis")),
    Outcome(RunStatus.CANCELLED, error=RunFailure(code="cancelled", type="Cancelled", message="cancelled")),
)


class Versions(bench.Versions):
    """A catalog of several algorithms."""

    def find(self, name, version=None):
        found = super().find(name, version)
        return found.model_copy(update={"manifest": found.manifest.model_copy(update={"name": name})})


class Cluster(bench.Bench):
    """A cluster whose replicas are played; the runs of each algorithm have their own."""

    def __init__(self, store, cluster):
        super().__init__(store, cluster=cluster)
        self.calls = {}

    async def accept(self, number, algorithm):
        """Submit a run, with its number as argument; some with a key."""
        if not self.recovered:
            await self.recover()
        request = RunRequest(input_dataset_ids=[], args={"sigma": float(number)}, device="cpu")
        key = f"key-{number}" if number % 4 == 0 or number >= 100 else None
        return await self.coordinator.submit(algorithm, request, new_id(), key)

    async def begin(self, run, texts):
        """Have a replica begin a run and report lines of its log."""
        while run.algorithm not in self.calls:
            lane, call_id, ended = await self.replicas.calls.get()
            self.calls[lane.algorithm] = call_id, ended
        call_id, _ = self.calls[run.algorithm]
        given = self.coordinator.begin(call_id, f"replica-{run.algorithm}")
        assert given.id == run.id
        tail = LogTail()
        for text in texts:
            tail.add(log_line(text, "INFO"))
        self.coordinator.report(bench.key_of(given), 0.5, tail.lines())
        return given

    async def end(self, given, outcome):
        """Have the replica deliver the outcome."""
        call_id, ended = self.calls.pop(given.algorithm)
        await self.coordinator.finish(call_id, bench.key_of(given), outcome, [])
        with contextlib.suppress(asyncio.InvalidStateError):
            ended.set_result(None)
        await asyncio.sleep(0.02)

    async def work(self, number):
        """A run from its begin to its end."""
        run = await self.accept(number, ALGORITHMS[number % 3])
        texts = [f"line {line} of run {number}" for line in range(3)] if number % 2 else []
        if number == 7:
            texts = [f"{line} {'x' * 100}" for line in range(120)]
        await self.end(await self.begin(run, texts), OUTCOMES[number // 2 % 3])
        if number == 5:
            self.store.put(v0_key(run.id), b'{"name": "asked by v0"}')

    async def die(self):
        """Stop without a word."""
        await asyncio.sleep(0.3)  # what is to be stored is
        self.coordinator._recovery._keeping.cancel()


async def make():
    """The bucket, and what the tests have to know of it."""
    store, names = MemoryObjectStore(), {}
    first = Cluster(store, "first")
    for number in range(8):
        await first.work(number)
    names["claimed"] = (await first.accept(100, "align")).id
    await first.die()
    second = Cluster(store, "second")
    await second.recover()
    while not store._objects.get("coordinator/first.claim"):
        second.clock += 9.0
        await asyncio.sleep(0.05)
    for number in range(8, 14):
        await second.work(number)
    names["pending"] = (await second.accept(101, "measure")).id
    running = await second.accept(102, "count")
    await second.begin(running, ["half way"])
    cancelling = await second.accept(103, "match")
    await second.begin(cancelling, ["almost done"])
    unfiled = await second.accept(104, "merge")
    given = await second.begin(unfiled, ["last line"])
    await asyncio.sleep(0.3)
    await second.coordinator.cancel(cancelling.id)
    second.records.file = lambda run: None
    await second.end(given, OUTCOMES[0])
    names |= {"running": running.id, "cancelling": cancelling.id, "unfiled": unfiled.id}
    await second.die()
    third = Cluster(store, "third")
    third.coordinator._recovery._ownership.inherit = lambda: False
    for number in range(14, 18):
        await third.work(number)
    await third.coordinator.release()
    # A key whose run was never recorded.
    store.put(f"runs/keys/{'0' * 64}.json", json.dumps({"run_id": new_id(), "request_sha256": "1"}).encode())
    objects = {stat.key: read(store, stat.key).decode() for stat in store.list("")}
    return {"time": now().isoformat(), "names": names, "objects": objects}


if __name__ == "__main__":
    bench.Versions = Versions
    journal.SAVE_AFTER_S = journal.SAVE_LOG_AFTER_S = recovery.ANNOUNCE_S = 0.0
    recovery.RENEW_S = 0.02
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(make()), indent=1, sort_keys=True) + "\n", "utf-8")
