"""What the records of runs cost, and how long they let clients wait, beside the goals; see README.md beside this.

    python -m tests.benchmarks.bench_run_log [--rows 1,2] [--runs 4000] [--ended 20000] [--former CHECKOUT] ...

There is no Ray in it: a scheduler in process on an embedded store, clients and replicas in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.keys import RUN_PAGES
from t3d_server.storage.s3 import S3ObjectStore
from tests.benchmarks import lookups
from tests.benchmarks.ended_runs import PAGE_RUNS, Plan, write
from tests.benchmarks.run_load import Load, Measured
from tests.benchmarks.store_proxy import StoreProxy

REPOSITORY = Path(__file__).parents[2]
DELAY_S = 0.05
PAGE_AFTER_S = 2.0
"""Pages come sooner than by default, so that a short load has them; what they cost a run is the same."""
IDLE_RUNS = 12
PAUSE_S = 0.1
"""Less than the time after which an attempt is an event."""
GOALS_A_RUN = {1: 2.0, 8: 0.7, 64: 0.1}


@dataclass(frozen=True)
class Loaded:
    """What a load has cost.

    Attributes:
        measured: by its process.
        requests: to the store, by method and folder.
        page_bytes: of the pages.
        all_bytes: of everything that is in the store in the end.
    """

    measured: Measured
    requests: Counter[tuple[str, str]]
    page_bytes: int
    all_bytes: int


@dataclass(frozen=True)
class Benchmark:
    """Measures the rows, and prints them; attributes as in the help of the command."""

    runs: int
    ended: int
    opened: int
    waiting: int
    memory: Sequence[int]
    repeats: int
    apart: float
    former: Path | None

    def requests(self) -> None:
        """Row 1."""
        for clients, goal in GOALS_A_RUN.items():
            runs = self.runs - self.runs % PAGE_RUNS
            done = self._load("present", clients, [runs])
            a_run = done.requests.total() / runs
            former = None if self.former is None else self._load("former", clients, [max(100, runs // 20)])
            theirs = "" if former is None else f"{former.requests.total() / len(former.measured.ended_s):.2f}"
            row(1, f"store requests a run, clients: {clients}", f"{a_run:.3f}", f"<= {goal:g}", theirs)
            for (method, folder), count in done.requests.most_common():
                print(f"       {count / runs:8.4f} {method} {folder}")

    def answers(self) -> None:
        """Row 2."""
        measured = self._load("present", 1, [IDLE_RUNS], delay_s=DELAY_S, pause_s=PAUSE_S).measured
        former = None
        if self.former is not None:
            former = self._load("former", 1, [IDLE_RUNS], delay_s=DELAY_S, pause_s=PAUSE_S).measured
        for what in ("accepted", "ended"):
            ours, theirs = (
                "" if each is None else f"{statistics.median(asdict(each)[f'{what}_s']) / DELAY_S:.2f}"
                for each in (measured, former)
            )
            row(2, f"time in store answers of 50 ms until told: {what}", ours, "1 (+ CPU)", theirs)

    def cpu(self) -> None:
        """Row 3."""
        kinds = ["present", "none"] if self.former is None else ["present", "former", "none"]
        figures: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(self.repeats):
            for kind in kinds:
                runs = self.runs - self.runs % PAGE_RUNS if kind != "former" else max(100, self.runs // 4)
                measured = self._load(kind, 8, [runs], direct=True).measured
                figures[kind].append((measured.cpu_s / runs * 1000, measured.store_cpu_s / runs * 1000))
        medians = {
            kind: [statistics.median(column) for column in zip(*rows, strict=True)] for kind, rows in figures.items()
        }
        own = {kind: f"{process:.2f} + {store:.2f}" for kind, (process, store) in medians.items()}
        row(3, "CPU ms a run: process + store, clients: 8", own["present"], "", own.get("former", ""))
        row(3, "  of which the load itself", own["none"], "", "")
        if self.former is not None:
            ratio = sum(medians["former"]) / sum(medians["present"])
            load = sum(medians["none"])
            without = (sum(medians["former"]) - load) / (sum(medians["present"]) - load)
            row(3, "  former / present, nothing subtracted", f"{ratio:.1f}", ">= 8", "1")
            row(3, "  former / present, without the load itself", f"{without:.1f}", "", "1")

    def acceptance(self) -> None:
        """Row 4."""
        measured = {
            kind: [self._load(kind, 64, [runs], delay_s=DELAY_S).measured for _ in range(self.repeats)]
            for kind, runs in (("present", max(640, self.runs // 4)), ("former", 320))
            if kind == "present" or self.former is not None
        }
        for name, quantile, goal in (("p50", 0.5, "<= 0.150"), ("p95", 0.95, "")):
            ours, theirs = (
                f"{statistics.median(_quantile(each.accepted_s, quantile) for each in measured[kind]):.3f}"
                if kind in measured
                else ""
                for kind in ("present", "former")
            )
            row(4, f"s until accepted, 64 clients, 50 ms an answer: {name}", ours, goal, theirs)
        a_second = statistics.median(len(each.ended_s) / each.wall_s for each in measured["present"])
        print(f"       {a_second:.0f} runs/s")

    def restart_and_listing(self, rows: Sequence[int]) -> None:
        """Rows 5 and 6, on the same store."""
        with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as embedded:
            locations = {count: replace(embedded.location, bucket=f"bench{count}") for count in (0, self.ended)}
            for count, location in locations.items():
                write(Plan(location, count, self.opened, self.apart))
            stores = {count: S3ObjectStore(location) for count, location in locations.items()}
            if 5 in rows:
                times: dict[int, list[float]] = {count: [] for count in stores}
                for _ in range(self.repeats):
                    for count, store in stores.items():
                        times[count].append(lookups.restart_s(store))
                without, with_ended = (statistics.median(each) for each in times.values())
                row(5, f"s from start to first run, {self.opened} open, 0 ended", f"{without:.2f}", "", "")
                row(5, f"  with {self.ended} ended", f"{with_ended:.2f}", "", "")
                row(5, "  difference", f"{with_ended - without:.2f}", "<= 1", "")
            if 6 in rows:
                for name, ms in lookups.listings(stores[self.ended], self.repeats).items():
                    row(6, f"ms for the newest 50 of {self.ended}: {name}", f"{ms:.1f}", "<= 20", "")

    def size(self) -> None:
        """Row 7."""
        stages = [count - before for before, count in zip([0, *self.memory[:-1]], self.memory, strict=True)]
        done = self._load("present", 64, stages, direct=True)
        paged = self.memory[-1] // PAGE_RUNS * PAGE_RUNS
        row(7, "bytes a run in pages, log of 3 lines", f"{done.page_bytes / paged:.0f}", "<= 2500", "")
        row(7, "  in everything that is in the store", f"{done.all_bytes / self.memory[-1]:.0f}", "", "")
        for count, mib in zip(self.memory, done.measured.rss_mib, strict=True):
            row(7, f"MiB of memory after {count} runs", f"{mib:.1f}", "flat", "")

    def live_listing(self) -> None:
        """Row 8."""
        with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as embedded:
            for name, ms in lookups.live_listings(S3ObjectStore(embedded.location), self.waiting, self.repeats).items():
                row(8, f"ms of the event loop for 50 of {self.waiting} live runs: {name}", f"{ms:.1f}", "<= 10", "")

    def _load(
        self,
        kind: str,
        clients: int,
        runs: Sequence[int],
        *,
        delay_s: float = 0.0,
        pause_s: float = 0.0,
        direct: bool = False,
    ) -> Loaded:
        """Have a process of its own do a load on a store of its own; `direct` is without the proxy."""
        with _store() as embedded, StoreProxy(embedded.location, delay_s) as proxy:
            location = embedded.location if direct else proxy.location
            pids = _children(embedded.pid or 0)
            load = Load(kind, asdict(location), clients, runs, pids, pause_s, {"page_after_s": PAGE_AFTER_S})
            path = [str(self.former)] if kind == "former" else []
            done = subprocess.run(
                [sys.executable, "-P", "-m", "tests.benchmarks.run_load", json.dumps(asdict(load))],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(REPOSITORY)])},
                stdout=subprocess.PIPE,
                check=True,
            )
            sizes = {stat.key: stat.size_bytes for stat in S3ObjectStore(embedded.location).list("runs/")}
            page_bytes = sum(size for key, size in sizes.items() if key.startswith(RUN_PAGES))
            return Loaded(Measured(**json.loads(done.stdout)), proxy.counts(), page_bytes, sum(sizes.values()))


@contextmanager
def _store() -> Iterator[EmbeddedStore]:
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as embedded:
        yield embedded


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]


def row(number: int, what: str, figure: str, goal: str, former: str) -> None:
    """Print a figure beside its goal, and how busy the machine has been in the last minute."""
    load = os.getloadavg()[0]
    print(f"{number:3}  {what:58} {figure:>14} {goal:>10} {former:>16} {load:6.1f}", flush=True)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=_numbers, default=list(range(1, 9)), help="which rows of the table: 1,3")
    parser.add_argument("--runs", type=int, default=4000, help=f"runs of a load (1, 3, 4); {PAGE_RUNS} or more")
    parser.add_argument("--ended", type=int, default=20_000, help="ended runs (5, 6)")
    parser.add_argument("--opened", type=int, default=1000, help="open runs (5, 6)")
    parser.add_argument("--apart", type=float, default=1.0, help="seconds between ended runs; keys are kept for 48 h")
    parser.add_argument("--memory", type=_numbers, default=[2000, 10_000], help="runs after which to look (7)")
    parser.add_argument("--waiting", type=int, default=5000, help="live runs (8)")
    parser.add_argument("--repeats", type=int, default=5, help="of what times are measured; medians are printed")
    parser.add_argument("--former", type=Path, help="checkout of the version before the log of runs (1 to 4)")
    options = vars(parser.parse_args())
    rows = options.pop("rows")
    bench = Benchmark(**options)
    print(f"{os.cpu_count()} cores; load: of the machine, average of the last minute, this benchmark included")
    print(f"row  {'what':58} {'measured':>14} {'goal':>10} {'former':>16} {'load':>6}")
    for numbers, measure in (
        ([1], bench.requests),
        ([2], bench.answers),
        ([3], bench.cpu),
        ([4], bench.acceptance),
        ([5, 6], partial(bench.restart_and_listing, rows)),
        ([7], bench.size),
        ([8], bench.live_listing),
    ):
        if set(numbers) & set(rows):
            measure()


if __name__ == "__main__":
    main()
