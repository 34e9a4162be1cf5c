"""Starts a server, deploys the reference algorithms, lets them work together on real images, and checks what comes out.

    make demo          (or: python examples/demo.py [--output demo-output])

Eight noisy pages of an eye that drifts, whose drift and whose clean image are known, are uploaded as one TIFF and
aligned; their mean is denoised, its vessels are segmented, and crops of it are told from textures by their embeddings.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import EuclideanTransform, resize, warp

from t3d_server import Client
from t3d_server.main import local_server
from t3d_server.models import DatasetInfo
from t3d_server.packages.folder import scan
from t3d_server.picture import Tile, draw_tiles
from t3d_server.settings import load_settings
from t3d_server.views import view_labels, view_matrix, view_pair

ALGORITHMS = Path(__file__).parents[1] / "algorithms"
NAMES = ("align", "denoise", "segment", "embed")
PAGES = 8
SIDE = 512  # pixels
MARGIN = 24  # pixels around the eye
NOISE = 0.1  # of the intensity range
INNER = np.s_[96:-96, 96:-96]  # where all pages show the eye
VESSELS = {"objects": "dark", "background": 12, "cleanup": [], "keep": "axis_major_length > 30", "output": "binary"}
TEXTURES = ("brick", "grass", "gravel")
CROP = 128  # pixels


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1] as uint8."""
    image: np.ndarray = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return image


def noisy(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The image, intensities in [0, 1], with Gaussian noise, as uint8."""
    return to_uint8(image + random.normal(0, NOISE, image.shape))


def drift(random: np.random.Generator) -> list[np.ndarray]:
    """A matrix for each page, which maps it onto the first one: parts of pixels and of degrees, page by page."""
    steps = random.normal((2.5, -1.5), 2.5, (PAGES - 1, 2))
    turns = np.deg2rad(random.normal(0.2, 0.3, PAGES - 1))
    centre = EuclideanTransform(translation=((SIDE - 1) / 2, (SIDE - 1) / 2))
    matrices = [np.eye(3)]
    for shift, turn in zip(steps.cumsum(axis=0), turns.cumsum(), strict=True):
        motion = centre.inverse + EuclideanTransform(rotation=turn) + centre + EuclideanTransform(translation=shift)
        matrices.append(motion.params)
    return matrices


def apart(found: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> np.ndarray:
    """How far the points of each page lie from where they belong, on average, in pixels of the first page."""
    y, x = np.mgrid[INNER[0].start : SIDE + INNER[0].stop : 16, INNER[1].start : SIDE + INNER[1].stop : 16]
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    distances = [np.hypot(*((one - other) @ points)[:2]).mean() for one, other in zip(found, true, strict=True)]
    return np.array(distances)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """How well two masks agree: 1 where they are equal."""
    inside, expected = mask[INNER] > 0, truth[INNER] > 0
    return float(2 * (inside & expected).sum() / (inside.sum() + expected.sum()))


class Demo:
    """Runs algorithms and keeps what the table and the verdict need."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.table: list[tuple[str, ...]] = []
        self.faults: list[str] = []

    def deploy(self, name: str) -> None:
        """Publish one of the reference algorithms."""
        began = time.monotonic()
        version = self.client.publish(scan(ALGORITHMS / name)[0])
        print(f"deployed {name} {version.manifest.version} in {time.monotonic() - began:.1f} s", flush=True)

    def run(
        self, name: str, inputs: Sequence[np.ndarray | DatasetInfo], args: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run an algorithm on images or datasets; returns the results."""
        began = time.monotonic()
        handle = self.client.submit(name, inputs, args=args)
        results = handle.result()
        elapsed_s = time.monotonic() - began
        run = handle.run
        counts = (str(len(inputs)), str(len(results)))
        self.table.append((name, run.version, run.resolved_device, *counts, f"{elapsed_s:.2f} s"))
        return results

    def expect(self, fulfilled: bool, what: str) -> None:
        """Note whether something is as it should be."""
        print(f"{'ok  ' if fulfilled else 'FAIL'} {what}", flush=True)
        if not fulfilled:
            self.faults.append(what)


def restore_eye(demo: Demo, folder: Path) -> tuple[list[list[Tile]], np.ndarray]:
    """Drift and noise are taken off a recording of an eye; returns the pictures of it, and the eye."""
    random = np.random.default_rng(0)
    size = SIDE - 2 * MARGIN
    eye = np.pad(resize(data.retina()[..., 1] / 255 * 1.5, (size, size), anti_aliasing=True), MARGIN)
    clean, true = to_uint8(eye), drift(random)
    pages = np.stack([noisy(warp(eye, matrix, order=3), random) for matrix in true])
    tifffile.imwrite(folder / "eye.tif", pages, imagej=True, metadata={"axes": "ZYX"})
    dataset = demo.client.upload(folder / "eye.tif")

    matrices = [np.eye(3)]
    for result in demo.run("align", [dataset]):
        matrices.append(matrices[-1] @ result["transform_matrix"])
    moved, left = apart([np.eye(3)] * PAGES, true), apart(matrices, true)
    demo.expect(left.max() < 0.2, f"align: pages are up to {moved.max():.1f} px apart -> {left.max():.2f} px")
    aligned = [
        to_uint8(warp(page / 255, np.linalg.inv(matrix), order=3)) for page, matrix in zip(pages, matrices, strict=True)
    ]

    raw_mean, aligned_mean = (np.mean(stack, axis=0).round().astype(np.uint8) for stack in (pages, aligned))
    [restored] = (result["image"] for result in demo.run("denoise", [aligned_mean]))
    images = {"page": pages[0], "raw": raw_mean, "aligned": aligned_mean, "restored": restored}
    psnr = {name: peak_signal_noise_ratio(clean[INNER], image[INNER]) for name, image in images.items()}
    demo.expect(psnr["aligned"] > psnr["raw"] + 3, f"mean: PSNR {psnr['raw']:.1f} dB -> {psnr['aligned']:.1f} dB")
    demo.expect(
        psnr["restored"] > psnr["aligned"] + 2, f"denoise: PSNR {psnr['aligned']:.1f} dB -> {psnr['restored']:.1f} dB"
    )

    truth, blurred, found = (result["mask"] for result in demo.run("segment", [clean, raw_mean, restored], VESSELS))
    right, wrong = dice(found, truth), dice(blurred, truth)
    demo.expect(
        right > max(wrong + 0.2, 0.8),
        f"segment: vessels agree with those of the clean image: Dice {wrong:.2f} -> {right:.2f}",
    )
    raw = [
        (f"first and last of {PAGES} pages\n{moved[-1]:.1f} px apart", view_pair(pages[0], pages[-1])),
        (f"mean of all pages\nPSNR {psnr['raw']:.1f} dB", raw_mean),
        (f"one page\nPSNR {psnr['page']:.1f} dB", pages[0]),
        (f"vessels in the mean of all pages\nDice {wrong:.2f}", view_labels(blurred, raw_mean)),
    ]
    done = [
        (f"align: first and last page\n{left[-1]:.2f} px apart", view_pair(pages[0], aligned[-1])),
        (f"mean of the aligned pages\nPSNR {psnr['aligned']:.1f} dB", aligned_mean),
        (f"denoise: that mean\nPSNR {psnr['restored']:.1f} dB", restored),
        (f"segment: vessels in it\nDice {right:.2f}", view_labels(found, restored)),
    ]
    return [raw, done], restored


def tell_apart(demo: Demo, eye: np.ndarray) -> list[Tile]:
    """Crops of the eye and of three textures are told apart by their embeddings."""
    images = {"eye": eye, **{name: getattr(data, name)() for name in TEXTURES}}
    corners = (SIDE // 2 - CROP, SIDE // 2)
    crops = [image[y : y + CROP, x : x + CROP] for image in images.values() for y in corners for x in corners]
    features = np.stack([result["features"] for result in demo.run("embed", crops)])
    similarity = features @ features.T
    kinds = np.repeat(np.arange(len(images)), len(corners) ** 2)
    nearest = np.where(np.eye(len(crops)), -np.inf, similarity).argmax(axis=1)
    right = int((kinds[nearest] == kinds).sum())
    demo.expect(
        right == len(crops), f"embed: the nearest neighbour of {right} of {len(crops)} crops is of its own kind"
    )
    return [(f"embed: {', '.join(images)}\n{right} of {len(crops)} neighbours right", view_matrix(similarity))]


def restore_photographs(demo: Demo) -> list[Tile]:
    """Noise that was added to photographs is removed again; returns pictures of the last one."""
    tiles: list[Tile] = []
    for name in ("camera", "astronaut"):
        clean = getattr(data, name)()
        spoiled = noisy(clean / 255, np.random.default_rng(1))
        [result] = demo.run("denoise", [spoiled])
        before, after = (peak_signal_noise_ratio(clean, image) for image in (spoiled, result["image"]))
        demo.expect(after > before + 5, f"denoise {name}: PSNR {before:.1f} dB -> {after:.1f} dB")
        tiles = [(f"with noise\nPSNR {before:.1f} dB", spoiled), (f"denoise\nPSNR {after:.1f} dB", result["image"])]
    return tiles


def count_coins(demo: Demo) -> list[Tile]:
    """All coins of a photograph are found."""
    coins = data.coins()
    [result] = demo.run("segment", [coins], {"background": 50})
    count = result["mask"].max()
    demo.expect(count == 24, f"segment: {count} of 24 coins")
    return [(f"segment\n{count} of 24 coins", view_labels(result["mask"], coins))]


def print_table(rows: list[tuple[str, ...]]) -> None:
    """The runs, in columns."""
    table = [("algorithm", "version", "device", "inputs", "outputs", "run time"), *rows]
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
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="t3d-demo-") as state:
        os.environ["T3D_STATE_DIR"] = state
        print("starting the object store, Ray and the server ...", flush=True)
        with local_server(load_settings(port=free_port())) as server, Client(server.url) as client:
            demo = Demo(client)
            for name in NAMES:
                demo.deploy(name)
            rows, eye = restore_eye(demo, Path(state))
            rows.append([*restore_photographs(demo), *count_coins(demo), *tell_apart(demo, eye)])
    picture = options.output / "demo.png"
    for path in (picture, picture.with_suffix(".jpg")):  # the smaller one is for docs/
        draw_tiles(rows, path)
    print()
    print_table(demo.table)
    print(f"\nwhat went in and what came out, after {time.monotonic() - began:.0f} s: {picture}")
    print("everything is as it should be" if not demo.faults else f"{len(demo.faults)} things are wrong")
    return len(demo.faults)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
