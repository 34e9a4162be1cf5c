"""Clients that submit small runs with a key and wait for their ends, on a coordinator in this process.

    python -P -m tests.benchmarks.run_load OPTIONS      prints what was measured as JSON; both are `Load` and `Measured`

The `t3d_server` is the one that `PYTHONPATH` names first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t3d_server.ids import new_id
from t3d_server.models import LogLine, RunRequest
from t3d_server.storage.s3 import S3Location, S3ObjectStore
from tests.benchmarks.coordinators import COORDINATORS

MESSAGES = (
    "read 1 dataset: image (10, 512, 512) uint16",
    "denoised with nl_means, strength 0.8, patches of 7 pixels",
    "stored 1 dataset: image (10, 512, 512) float32",
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What is to be done.

    Attributes:
        kind: of `COORDINATORS`.
        location: the store's, as JSON has it.
        clients: how many submit at a time.
        runs: how many runs, in stages after each of which everything settles and memory is measured.
        store_pids: processes of the store.
        pause_s: clients and replicas wait about so long before each call; 0 for not at all.
        timings: of the present coordinator, where not as by default.
    """

    kind: str
    location: dict[str, Any]
    clients: int
    runs: Sequence[int]
    store_pids: Sequence[int] = ()
    pause_s: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)


@dataclass
class Measured:
    """What was measured.

    Attributes:
        accepted_s: from each submission to its answer.
        delivered_s: from the delivery of each outcome to the replica's answer.
        ended_s: from the delivery of each outcome to the client's answer.
        rss_mib: resident memory of this process after each stage.
        wall_s: time from the first submission to the last end.
        cpu_s: user and system time of this process, until everything has settled.
        store_cpu_s: the same of the store.
    """

    accepted_s: list[float] = field(default_factory=list)
    delivered_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    store_cpu_s: float = 0.0


def own_cpu_s() -> float:
    """User and system time of this process."""
    times = os.times()
    return times.user + times.system


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of other processes."""
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS


def rss_mib() -> float:
    """Resident memory of this process."""
    gc.collect()
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def drive(load: Load) -> Measured:
    """Start the coordinator, put the load on it, and stop it."""
    measured, delivered_at, left = Measured(), dict[str, float](), 0

    async def pause() -> None:
        if load.pause_s:
            await asyncio.sleep(load.pause_s * random.uniform(0.8, 1.2))

    async def replica(call_id: str) -> None:
        run = await coordinator.begin(call_id, f"replica-{call_id[-6:]}")
        while run is not None:
            await pause()
            lines = [LogLine(time=datetime.now(UTC), level="INFO", message=message) for message in MESSAGES]
            delivered_at[run.id] = began = time.perf_counter()
            run = await coordinator.finish(call_id, run, new_id(), lines)
            measured.delivered_s.append(time.perf_counter() - began)

    async def client() -> None:
        nonlocal left
        while left:
            left -= 1
            await pause()
            request, run_id = RunRequest(input_dataset_ids=[new_id()], args={"strength": 0.8}), new_id()
            began = time.perf_counter()
            await coordinator.submit(request, run_id, new_id())
            measured.accepted_s.append(time.perf_counter() - began)
            await coordinator.wait(run_id)
            measured.ended_s.append(time.perf_counter() - delivered_at.pop(run_id))

    store = S3ObjectStore(S3Location(**load.location))
    coordinator = COORDINATORS[load.kind](store, replica, **load.timings)
    await coordinator.start()
    for number, runs in enumerate(load.runs, 1):
        cpu_before_s, store_before_s = own_cpu_s(), cpu_s(load.store_pids)
        left, began = runs, time.perf_counter()
        await asyncio.gather(*(client() for _ in range(load.clients)))
        measured.wall_s += time.perf_counter() - began
        await coordinator.settle()
        if number == len(load.runs):
            await coordinator.stop()
        measured.cpu_s += own_cpu_s() - cpu_before_s
        measured.store_cpu_s += cpu_s(load.store_pids) - store_before_s
        measured.rss_mib.append(rss_mib())
    return measured


def main() -> None:
    """Do what the argument says."""
    print(json.dumps(asdict(asyncio.run(drive(Load(**json.loads(sys.argv[1])))))))


if __name__ == "__main__":
    main()
