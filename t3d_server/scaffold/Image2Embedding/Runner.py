"""Turns images into short vectors: the place for your own Image2Embedding algorithm."""

from typing import Any

import numpy as np
from t3d_server.algorithm_utils import Image2EmbeddingRunner

GRID = 16


def block_means(image: np.ndarray) -> np.ndarray:
    """The mean intensities of a grid of blocks, without brightness and contrast.

    Args:
        image: (Y, X), any intensity range.

    Returns:
        float64 (256,): 16 rows of 16 blocks, of mean 0 and standard deviation 1 (0 for
        an even image).
    """
    rows = np.array_split(image.astype(np.float64), GRID, axis=0)
    blocks = [block for row in rows for block in np.array_split(row, GRID, axis=1)]
    means = np.array([block.mean() if block.size else 0.0 for block in blocks])
    means -= means.mean()
    means /= max(float(means.std()), 1e-12)
    return means


class Runner(Image2EmbeddingRunner):
    """What the server runs; it makes one object and keeps it for all runs.

    `self.device` is "cpu" or "cuda". Where a network sees images of another size, set
    `self.input_size` to it, (height, width) in pixels.
    """

    def load_assets(self) -> None:
        """Make a random rotation, always the same; this is the place to load a model.

        `self.fetch_asset("files/model.npz")` opens a file of this folder. What is set on
        `self` here is set in every run.
        """
        numbers = np.random.default_rng(0).normal(size=(GRID**2, GRID**2))
        self.rotation, _ = np.linalg.qr(numbers)

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Embed each slice.

        Args:
            data: (N, Y, X) or (N, Y, X, 3): the slices of all inputs, of one shape and
                dtype (uint8, int16, uint16, int32, float16, float32 or float64), with
                the intensities of the files.
            args: a value for every parameter in pyproject.toml: `dimensions`, int.

        Returns:
            Floats (N, D): D numbers for each slice of `data`; or (N, C, h, w): a map of
            C features for each slice.
        """
        grey = data.mean(axis=-1) if data.ndim == 4 else data
        dimensions = args["dimensions"]
        features = np.empty((len(grey), dimensions), np.float32)
        for index, image in enumerate(grey):
            features[index] = block_means(image) @ self.rotation[:, :dimensions]
            self.set_progress((index + 1) / len(grey))
        self.log_message(f"Embedded {len(grey)} slices in {dimensions} dimensions.")
        return features
