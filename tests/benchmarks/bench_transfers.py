"""Times the client's transfers beside bare requests of the same bytes, in turns; and how much memory they take.

    t3d up
    python tests/benchmarks/bench_transfers.py [--megabytes 256] [--repeats 5]

Uploads are compared with a POST of the HDF5 file from memory, downloads with a GET that keeps nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import requests

from t3d_server import discovery
from t3d_server.client import Client
from t3d_server.datasets import hdf5


def measured(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call takes, and by how many megabytes this process grows meanwhile."""
    ended = threading.Event()
    sizes = [_resident_mb()]

    def watch() -> None:
        while not ended.wait(0.002):
            sizes.append(_resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    call()
    took_s = time.perf_counter() - began
    ended.set()
    watcher.join()
    return took_s, max(sizes) - sizes[0]


def _resident_mb() -> float:
    # What is mapped from files is not counted: the system takes it back when it needs the memory.
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(fields["RssAnon"].split()[0]) / 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 255, (options.megabytes, 1024, 1024), np.uint8)
    token = os.environ.get("T3D_TOKEN") or discovery.read_token()
    with tempfile.TemporaryDirectory() as folder, Client() as t3d, requests.Session() as bare:
        path = Path(folder) / "image.h5"
        hdf5.write(path, {"image": image})
        content = path.read_bytes()
        bare.headers["Authorization"] = f"Bearer {token}"

        def post() -> str:
            answer = bare.post(f"{t3d.url}/v1/datasets", content, headers={"Content-Type": "application/x-hdf5"})
            answer.raise_for_status()
            return str(answer.json()["id"])

        def get() -> None:
            for _ in bare.get(f"{t3d.url}/v1/datasets/{stored}", stream=True).iter_content(1024**2):
                pass

        stored = post()
        uploads: dict[str, Callable[[], str]] = {
            "bare POST": post,
            "upload(array)": lambda: t3d.upload(image).id,
            "upload(values)": lambda: t3d.upload({"image": image, "note": "x"}).id,
            "upload(path)": lambda: t3d.upload(path).id,
        }
        downloads: dict[str, Callable[[], object]] = {
            "bare GET": get,
            "download": lambda: t3d.download(stored, Path(folder) / "again.h5"),
            "fetch": lambda: t3d.fetch(stored),
            "fetch_array": lambda: t3d.fetch_array(stored),
        }
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in (*uploads, *downloads)}
        for _ in range(options.repeats):
            for name, upload in uploads.items():
                made: list[str] = []
                figures[name].append(measured(lambda upload=upload, made=made: made.append(upload())))  # type: ignore[misc]  # defaults
                t3d.delete(made[0])
            for name, download in downloads.items():
                figures[name].append(measured(download))
        t3d.delete(stored)
    print(f"{options.megabytes} MB, medians of {options.repeats}")
    for names in (uploads, downloads):
        reference = statistics.median(took_s for took_s, _ in figures[next(iter(names))])
        for name in names:
            took_s = statistics.median(took_s for took_s, _ in figures[name])
            grown_mb = max(grown_mb for _, grown_mb in figures[name])
            print(f"{name:15} {took_s:7.2f} s   {took_s / reference:5.2f} of the bare request   +{grown_mb:.0f} MB")


if __name__ == "__main__":
    main()
