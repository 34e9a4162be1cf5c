"""Starts a server, deploys the reference algorithms, runs them on real images, and checks what comes out.

    make demo          (or: python examples/demo.py [--output demo-output])

The images come with scikit-image. The server has a port, a store and a state folder of its own, and is stopped at the
end; the exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from t3d_server import Client
from t3d_server.main import local_server
from t3d_server.packages.folder import scan
from t3d_server.picture import Row, draw_rows
from t3d_server.settings import load_settings

ALGORITHMS = Path(__file__).parents[1] / "algorithms"
NOISE = 0.1
LEAST_GAIN_DB = 5.0
TEXTURES = ("brick", "grass", "gravel")
CROP = 128


def noisy(image: np.ndarray) -> np.ndarray:
    """The uint8 image with Gaussian noise of `NOISE` of its range."""
    values = image / 255 + np.random.default_rng(0).normal(0, NOISE, image.shape)
    result: np.ndarray = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return result


class Demo:
    """Runs algorithms and keeps what the table, the picture and the verdict need."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.table: list[tuple[str, ...]] = []
        self.rows: list[Row] = []
        self.faults: list[str] = []

    def deploy(self, name: str) -> None:
        """Publish one of the reference algorithms."""
        began = time.monotonic()
        version = self.client.publish(scan(ALGORITHMS / name)[0])
        print(f"deployed {name} {version.manifest.version} in {time.monotonic() - began:.1f} s", flush=True)

    def run(
        self, name: str, images: Mapping[str, np.ndarray], args: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run an algorithm on each of the images at once; returns a dictionary for each."""
        began = time.monotonic()
        handle = self.client.submit(name, list(images.values()), args=dict(args or {}))
        results = handle.result()
        elapsed_s = time.monotonic() - began
        run = handle.run
        self.table.append(
            (name, run.version, run.resolved_device, str(len(images)), f"{elapsed_s:.2f} s", f"{len(results)} datasets")
        )
        return results

    def expect(self, fulfilled: bool, what: str) -> None:
        """Note whether something is as it should be."""
        print(f"{'ok  ' if fulfilled else 'FAIL'} {what}", flush=True)
        if not fulfilled:
            self.faults.append(what)


def denoise(demo: Demo) -> None:
    """Noise that was added to photographs is removed again."""
    for name in ("camera", "brick", "coins", "astronaut"):
        clean = getattr(data, name)()
        spoiled = noisy(clean)
        [result] = demo.run("denoise", {name: spoiled})
        before = peak_signal_noise_ratio(clean, spoiled)
        after = peak_signal_noise_ratio(clean, result["image"])
        demo.expect(after - before > LEAST_GAIN_DB, f"denoise {name}: PSNR {before:.1f} dB -> {after:.1f} dB")
        demo.rows.append((f"denoise {name}", [{"image": spoiled}], [result]))


def embed(demo: Demo) -> None:
    """Crops of three textures are told apart by their embeddings."""
    crops = {
        f"{name} {row},{column}": getattr(data, name)()[row : row + CROP, column : column + CROP]
        for name in TEXTURES
        for row in (0, 256)
        for column in (0, 256)
    }
    results = demo.run("embed", crops)
    features = np.stack([result["features"] for result in results])
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    labels = np.array([name.split()[0] for name in crops])
    right = int((labels[similarity.argmax(axis=1)] == labels).sum())
    demo.expect(
        right == len(labels), f"embed: the nearest neighbour of {right} of {len(labels)} crops is its own texture"
    )
    for name in TEXTURES:
        first = list(labels).index(name)
        demo.rows.append((f"embed {name}", [{"image": list(crops.values())[first]}], [results[first]]))


def print_table(rows: list[tuple[str, ...]]) -> None:
    """The runs, in columns."""
    table = [("algorithm", "version", "device", "images", "run time", "outputs"), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Run the demo; the number of things that were wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="t3d-demo-") as state:
        os.environ["T3D_STATE_DIR"] = state
        print("starting the object store, Ray and the server ...", flush=True)
        with local_server(load_settings(port=free_port())) as server, Client(server.url) as client:
            demo = Demo(client)
            for name in ("denoise", "embed"):
                demo.deploy(name)
            denoise(demo)
            embed(demo)
    picture = options.output / "demo.png"
    draw_rows(demo.rows, picture)
    print()
    print_table(demo.table)
    print(f"\ninputs beside results: {picture}")
    print("everything is as it should be" if not demo.faults else f"{len(demo.faults)} things are wrong")
    return len(demo.faults)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
