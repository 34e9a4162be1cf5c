"""Times upload, run and download, and runs per second, beside the bare object store in the same minute.

    python tests/benchmarks/bench_runs.py [--repeats 5] [--seconds 10]

The algorithm gives back what it got, so that all the time is the server's. `put` and `get` are those of the store under
the server, with the very bytes of the dataset; a run has to read the dataset once and to write it once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
SHAPES: dict[str, tuple[int, ...]] = {
    "256x256": (256, 256),
    "10 x 512x512": (10, 512, 512),
    "4000x4000": (4000, 4000),
    "16000x16000": (16000, 16000),
}
LARGE_BYTES = 100_000_000
CLIENTS = 8


@contextmanager
def quiet_server(folder: str) -> Iterator[None]:
    """A server of its own in a temporary folder."""
    os.environ["T3D_STATE_DIR"] = folder
    from t3d_server.main import local_server
    from t3d_server.settings import load_settings

    with local_server(load_settings()):
        yield


def timed(call: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def bench_shape(name: str, shape: tuple[int, ...], repeats: int) -> None:
    """Print medians for one shape, in milliseconds."""
    from t3d_server import Client
    from t3d_server.main import connect

    store = connect().store
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    rows = []
    with Client() as client:
        for _ in range(1 + (3 if image.nbytes > LARGE_BYTES else repeats)):
            began = time.perf_counter()
            dataset = client.upload(image)
            uploaded = time.perf_counter()
            run = client.submit("identity", dataset.id).wait()
            ran = time.perf_counter()
            result = client.fetch(run.output_dataset_ids[0])["image"]
            fetched = time.perf_counter()
            assert np.array_equal(result, image)
            content = b"".join(store.get(f"datasets/{dataset.id}.h5"))
            put = timed(lambda content=content: store.put("benchmark", content))  # type: ignore[misc]  # a default
            get = timed(lambda: [None for _ in store.get("benchmark")])
            rows.append(((uploaded - began) * 1e3, (ran - uploaded) * 1e3, (fetched - ran) * 1e3, put, get))
            for dataset_id in (dataset.id, run.output_dataset_ids[0]):
                client.delete(dataset_id)
    upload, run_time, download, put, get = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    total = upload + run_time + download
    bare = 2 * put + 2 * get
    ours = f"{upload:8.0f} {run_time:8.0f} {download:8.0f} {total:8.0f}"
    print(f"{name:14} {ours} | {put:8.1f} {get:8.1f} | {total / bare:6.2f}", flush=True)


def bench_clients(seconds: float) -> None:
    """Print runs per second with several clients, each of which uploads, runs and downloads a 256x256 image."""
    from t3d_server import Client

    image = np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)
    done = [0] * CLIENTS
    deadline = time.monotonic() + seconds

    def work(index: int) -> None:
        with Client() as client:
            while time.monotonic() < deadline:
                client.run("identity", image)
                done[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(CLIENTS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        f"{CLIENTS} clients: {sum(done) / (time.monotonic() - began):.1f} jobs/s (upload, run and download of 256x256)"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet_server(folder):
        from t3d_server import Client
        from t3d_server.packages.folder import scan

        with Client() as client:
            client.publish(scan(REPOSITORY / "tests/benchmarks/identity")[0])
        print("medians in ms   upload      run download    total |      put      get | total / (2 put + 2 get)")
        for name, shape in SHAPES.items():
            bench_shape(name, shape, options.repeats)
        bench_clients(options.seconds)


if __name__ == "__main__":
    main()
