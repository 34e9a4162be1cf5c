"""What many runs cost: a thousand that wait, a restart, many followers, and the memory over thousands of runs.

    python tests/benchmarks/bench_endurance.py [--runs 20000] [--queued 1000] [--followers 200]

Memory is the resident set of the process. The restart is that of a coordinator which is killed while runs wait.
Delay is the time from a line's writing in the replica until a follower has it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from t3d_server import Client
from t3d_server.main import local_server
from t3d_server.packages.folder import scan
from t3d_server.settings import load_settings

REPOSITORY = Path(__file__).parents[2]
CLIENTS = 8
PROCESSES = {"coordinator": b"ray::CoordinatorActor", "router": b"ray::ServeReplica:t3d:router"}
CHECKPOINTS = (0.1, 0.5, 1.0)


def process_of(name: str, folder: str) -> int:
    """The process of a kind of this server, whose environment names its folder."""
    while True:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                ours = folder.encode() in (path / "environ").read_bytes()
                if ours and (path / "cmdline").read_bytes().startswith(PROCESSES[name]):
                    return int(path.name)
            except OSError:  # it has just ended
                continue
        time.sleep(0.05)


def resident_mib(pid: int) -> float:
    """Resident set of a process."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def in_threads(call: Callable[[], object], count: int) -> float:
    """Seconds that so many calls take, from some threads."""
    numbers = itertools.count()

    def work() -> None:
        while next(numbers) < count:
            call()

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def bench_queue(client: Client, image: str, count: int, folder: str) -> None:
    """Print times of submitting, asking, listing, and of going on after the coordinator was killed."""
    probe = client.submit("probe", image, args={"mode": "holds", "path": f"{folder}/go"})
    hold = [probe, client.submit("probe", image, args={"mode": "holds", "path": f"{folder}/go"})]
    with ThreadPoolExecutor(CLIENTS) as pool:
        began = time.monotonic()
        handles = list(pool.map(lambda _: client.submit("probe", image), range(count)))
        print(f"{count} runs submitted: {count / (time.monotonic() - began):.0f}/s")
        began = time.monotonic()
        positions = list(pool.map(lambda handle: handle.refresh().queue_position, handles))
        print(
            f"asked for each: {count / (time.monotonic() - began):.0f}/s; the last one waits as number {max(positions)}"
        )
    began = time.monotonic()
    client.runs(limit=50)
    print(f"a page of 50: {(time.monotonic() - began) * 1000:.0f} ms")
    began = time.monotonic()
    os.kill(process_of("coordinator", folder), signal.SIGKILL)
    time.sleep(0.2)
    handles[-1].refresh()
    print(f"the coordinator was killed, and answers again after {time.monotonic() - began:.1f} s")
    Path(folder, "go").touch()
    began = time.monotonic()
    for handle in [*hold, *handles]:
        assert handle.wait().status == "COMPLETED"
    print(f"all have ended after another {time.monotonic() - began:.1f} s")


def processor_s(pid: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench_followers(client: Client, image: str, count: int, folder: str) -> None:
    """Print how late a run's lines reach many followers, and what that costs the router."""
    run_id = client.submit("probe", image, args={"mode": "ticks", "count": 100}).id
    router = process_of("router", folder)
    before_s, began = processor_s(router), time.monotonic()

    def follow(_: int) -> list[float]:
        heard = [(line.time, datetime.now(UTC)) for _, event in client.follow(run_id) for line in event.lines]
        return [(now - then).total_seconds() for then, now in heard]

    with ThreadPoolExecutor(count) as pool:
        heard = list(pool.map(follow, range(count)))
    spent_s, took_s = processor_s(router) - before_s, time.monotonic() - began
    delays = sorted(itertools.chain.from_iterable(heard))
    assert len({len(lines) for lines in heard}) == 1, "some followers missed lines"
    print(
        f"{count} followers of {len(heard[0])} lines in {took_s:.0f} s: delay median {delays[len(delays) // 2]:.2f} s, "
        f"worst {delays[-1]:.2f} s; router {spent_s / took_s:.0%} of a core"
    )


def bench_memory(client: Client, image: str, count: int, folder: str) -> None:
    """Print the memory of coordinator and router on the way through many short runs."""
    done = 0
    for share in CHECKPOINTS:
        seconds = in_threads(lambda: client.submit("identity", image, wait_s=30).wait(), int(count * share) - done)
        speed, done = (int(count * share) - done) / seconds, int(count * share)
        memory = ", ".join(f"{name} {resident_mib(process_of(name, folder)):.0f} MiB" for name in PROCESSES)
        print(f"after {done} runs ({speed:.0f}/s): {memory}", flush=True)


def bench(client: Client, folder: str, queued: int, followers: int, runs: int) -> None:
    """Print all figures."""
    for package in ("tests/benchmarks/identity", "tests/packages/probe"):
        client.publish(scan(REPOSITORY / package)[0])
    image = client.upload(np.zeros((16, 16), np.uint8)).id
    bench_queue(client, image, queued, folder)
    bench_followers(client, image, followers, folder)
    bench_memory(client, image, runs, folder)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--queued", type=int, default=1_000)
    parser.add_argument("--followers", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["T3D_STATE_DIR"] = folder
        with local_server(load_settings()), Client() as client:
            bench(client, folder, options.queued, options.followers, options.runs)


if __name__ == "__main__":
    main()
