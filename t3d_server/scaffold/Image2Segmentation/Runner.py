"""Finds the foreground of images: the place for your own Image2Segmentation algorithm."""

from typing import Any

import numpy as np
from t3d_server.algorithm_utils import Image2SegmentationRunner


def otsu_threshold(image: np.ndarray) -> float:
    """The intensity that splits the pixels into the two most different classes.

    Args:
        image: (Y, X), any intensity range.

    Returns:
        The threshold by the method of Otsu, in intensity units of the image.
    """
    counts, edges = np.histogram(image, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    mean_below = sums / np.maximum(below, 1)
    mean_above = (sums[-1] - sums) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    return float(edges[np.argmax(between) + 1])


class Runner(Image2SegmentationRunner):
    """What the server runs; it makes one object and keeps it for all runs.

    To load a model once, write `load_assets(self)`: `self.fetch_asset("files/model.npz")`
    opens a file of this folder, and what is set on `self` there is set in every run.
    `self.device` is "cpu" or "cuda".
    """

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Find the foreground of each slice.

        Args:
            data: (N, Y, X) or (N, Y, X, 3): the slices of all inputs, of one shape and
                dtype (uint8, int16, uint16, int32, float16, float32 or float64), with
                the intensities of the files.
            args: a value for every parameter in pyproject.toml: `foreground`, "bright"
                or "dark".

        Returns:
            (N, Y, X), integers or bool: a mask for each slice of `data`; 0 is background.
            Other values are classes, or the numbers of objects.
        """
        grey = data.mean(axis=-1) if data.ndim == 4 else data
        masks = np.zeros(grey.shape, np.uint8)
        for index, image in enumerate(grey):
            bright = image >= otsu_threshold(image)
            masks[index] = bright if args["foreground"] == "bright" else ~bright
            self.set_progress((index + 1) / len(grey))
        self.log_message(f"{masks.mean():.1%} of the pixels are foreground.")
        return masks
