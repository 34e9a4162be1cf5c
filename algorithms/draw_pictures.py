"""Draws the pictures of the algorithms' READMEs: `make pictures`, or `python algorithms/draw_pictures.py [NAME...]`.

They lie in docs/algorithms, since files of an algorithm's folder are published with it.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import EuclideanTransform, resize, warp

from t3d_server.picture import Tile, draw_tiles
from t3d_server.testing import run
from t3d_server.views import view_image, view_labels, view_matrix, view_pair

ALGORITHMS = Path(__file__).parent
PICTURES = ALGORITHMS.parent / "docs" / "algorithms"


def noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """The image, intensities in [0, 1], with Gaussian noise, as uint8."""
    return to_uint8(image + np.random.default_rng(seed).normal(0, sigma, image.shape))


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1] as uint8."""
    image: np.ndarray = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return image


def denoise() -> list[Tile]:
    """Photographs with noise, and without it again."""
    tiles = []
    for name in ("camera", "astronaut"):
        clean = getattr(data, name)()
        spoiled = noisy(clean / 255, 0.1)
        [result] = run(ALGORITHMS / "denoise", spoiled)
        for caption, image in ((f"{name} with noise", spoiled), ("denoise", result["image"])):
            tiles.append((f"{caption}\nPSNR {peak_signal_noise_ratio(clean, image):.1f} dB", image))
    return tiles


def segment() -> list[Tile]:
    """Objects on shaded grounds."""
    coins = data.coins()
    [found] = run(ALGORITHMS / "segment", coins, {"background": 50})
    silhouette = ~data.horse().astype(bool)
    y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in silhouette.shape), indexing="ij")
    horse = noisy(np.where(silhouette, 0.15, 0.9) * (1 - 0.35 * (x + y)), 0.1)
    [outlined] = run(ALGORITHMS / "segment", horse, {"objects": "dark", "background": 80})
    mask = outlined["mask"] > 0
    overlap = (mask & silhouette).sum() / (mask | silhouette).sum()
    return [
        ("coins\non a shaded ground", coins),
        (f"segment\n{found['mask'].max()} objects, background=50", view_labels(found["mask"], coins)),
        ("horse\nwith shade and noise", horse),
        (f"segment\n{overlap:.1%} overlap with the silhouette", view_labels(outlined["mask"], horse)),
    ]


def align() -> list[Tile]:
    """Two images of an eye that has moved."""
    eye = 1.5 * resize(data.retina()[..., 1] / 255, (512, 512), anti_aliasing=True)
    motion = EuclideanTransform(rotation=np.deg2rad(4), translation=(24.3, -17.6))
    first, second = noisy(eye, 0.08, seed=1), noisy(warp(eye, motion, order=3), 0.08, seed=2)
    [result] = run(ALGORITHMS / "align", [first, second])
    matrix = result["transform_matrix"]
    aligned = to_uint8(warp(second / 255, np.linalg.inv(matrix), order=3))
    corners = np.array([[100, 411, 100, 411], [100, 100, 411, 411], [1, 1, 1, 1]])
    before, after = (np.hypot(*((guess - motion.params) @ corners)[:2]).mean() for guess in (np.eye(3), matrix))
    return [
        ("first image\nof a retina", first),
        ("second image\nthe eye has moved and turned", second),
        (f"on each other\n{before:.1f} px apart", view_pair(first, second)),
        (f"align\n{after:.2f} px apart", view_pair(first, aligned)),
    ]


def embed() -> list[Tile]:
    """Crops of textures, and how alike they are."""
    names, size, corners = ("brick", "grass", "gravel"), 128, range(0, 512, 256)
    crops = [getattr(data, name)()[y : y + size, x : x + size] for name in names for y in corners for x in corners]
    features = np.stack([result["features"] for result in run(ALGORITHMS / "embed", crops)])
    shown = [(f"{name}\none of {len(corners) ** 2} crops", crops[4 * index]) for index, name in enumerate(names)]
    similarity = view_matrix(features @ features.T)
    return [*shown, (f"embed: similarity of {len(crops)} crops\n{', '.join(names)}", similarity)]


ROWS: dict[str, Callable[[], list[Tile]]] = {"denoise": denoise, "segment": segment, "align": align, "embed": embed}


def main(names: list[Any]) -> None:
    """Draw the pictures of these algorithms, or of all."""
    for name in names or ROWS:
        path = PICTURES / f"{name}.jpg"
        draw_tiles([[(caption, view_image(picture)) for caption, picture in ROWS[name]()]], path)
        print(path)  # noqa: T201  # what the command has done


if __name__ == "__main__":
    main(sys.argv[1:])
