"""Writes the log of a cluster that was killed: many ended runs in pages, and some that are open, in segments."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from t3d_server.ids import first_id, new_id
from t3d_server.models import Attempt, LogLine, Run, RunStatus
from t3d_server.run_store.events import Accepted, Header, Joined, PageInfo, encode
from t3d_server.run_store.pages import write_page
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.storage.keys import segment_key, snapshot_key
from t3d_server.storage.s3 import S3Location, S3ObjectStore
from tests.benchmarks.coordinators import ALGORITHM, CLUSTER
from tests.benchmarks.run_load import MESSAGES

COMMON = (ALGORITHM, RunStatus.COMPLETED)
RARE = ("align", RunStatus.FAILED)
OTHERS = [
    ("align", RunStatus.COMPLETED),
    ("embed", RunStatus.COMPLETED),
    ("embed", RunStatus.FAILED),
    ("segment", RunStatus.COMPLETED),
    (ALGORITHM, RunStatus.CANCELLED),
]
EVERY_COMMON = 4
EVERY_RARE = 200
SEGMENTS = 250
"""As many as there are on average since the last snapshot."""
PAGE_RUNS = Timings().page_runs


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        location: where to.
        ended: how many ended runs, of which one in `EVERY_COMMON` and in `EVERY_RARE` are of these kinds, at random.
        opened: how many open runs.
        apart_s: how long after the one before each was submitted; keys are kept for some time only.
    """

    location: S3Location
    ended: int
    opened: int
    apart_s: float


def write(plan: Plan) -> None:
    """Write everything, with as many processes as there are cores."""
    store, now = S3ObjectStore(plan.location), datetime.now(UTC)
    store.prepare()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        written = list(pool.map(partial(_page, plan, now), range(0, plan.ended, PAGE_RUNS)))
    keys_since = first_id(now - timedelta(seconds=Timings().keys_s))
    pages = [page if page.last >= keys_since else page.model_copy(update={"keys": ""}) for page in written]
    snapshot = State(seq=1, pages={page.name: page for page in reversed(pages)})
    store.put(snapshot_key(snapshot.seq), snapshot.dump())
    for number in range(SEGMENTS):
        events = [Accepted(run=run, key=_sha256(run.id)) for run in _open_runs(plan, number, now)]
        lines = [event.model_dump_json() for event in ([Joined(), *events] if number == 0 else events)]
        header = Header(cluster=CLUSTER, process="killed", batch=new_id(), time=now)
        store.put(segment_key(snapshot.seq + 1 + number), encode(header, lines))


def _open_runs(plan: Plan, segment: int, now: datetime) -> Iterator[Run]:
    for _ in range(segment * plan.opened // SEGMENTS, (segment + 1) * plan.opened // SEGMENTS):
        yield _run(new_id(), COMMON[0], RunStatus.PENDING, now)


def _page(plan: Plan, now: datetime, first: int) -> PageInfo:
    """The page of the runs from this one on, the newest of which is number 0."""
    numbers = range(first, min(first + PAGE_RUNS, plan.ended))
    times = (now - timedelta(seconds=(1 + number) * plan.apart_s) for number in numbers)
    return write_page(S3ObjectStore(plan.location), [_ended(time) for time in times])


def _ended(time: datetime) -> StoredRun:
    chance = random.randrange(EVERY_RARE)
    kind = RARE if chance == 0 else COMMON if chance <= EVERY_RARE // EVERY_COMMON else random.choice(OTHERS)
    run = _run(first_id(time) + new_id()[13:], *kind, time)
    lines = [LogLine(time=time, level="INFO", message=message) for message in MESSAGES]
    return StoredRun(run=run, owner=CLUSTER, key=_sha256(run.id), request_sha256=_sha256(run.id), lines=lines)


def _run(run_id: str, algorithm: str, status: RunStatus, time: datetime) -> Run:
    run = Run(
        id=run_id,
        algorithm=algorithm,
        version="1.0.0",
        resolved_device="cpu",
        status=status,
        input_dataset_ids=[new_id()],
        args={"strength": 0.8},
        timeout_s=600.0,
        created_at=time,
    )
    if not status.ended:
        return run
    attempt = Attempt(number=1, replica=f"replica-{run_id[-6:]}", started_at=time, ended_at=time, outcome="completed")
    ends = {"progress": 1.0, "message": MESSAGES[-1], "started_at": time, "ended_at": time, "attempts": 1}
    return run.model_copy(update={**ends, "output_dataset_ids": [new_id()], "attempt_history": [attempt]})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
