"""Stretches the contrast of images: the place for your own Image2Image algorithm."""

from typing import Any

import numpy as np
from t3d_server.algorithm_utils import Image2ImageRunner


def stretch(image: np.ndarray, saturated: float) -> np.ndarray:
    """Stretch the contrast of one slice.

    Args:
        image: (Y, X) or (Y, X, 3), any image dtype.
        saturated: percent of the pixels that may become black, and as many white.

    Returns:
        Shape and dtype of `image`; integers fill the range of their dtype, floats
        the range [0, 1].
    """
    low, high = np.percentile(image, (saturated, 100 - saturated))
    stretched: np.ndarray = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        stretched = np.rint(limits.min + stretched * float(limits.max - limits.min))
    return stretched.astype(image.dtype)


class Runner(Image2ImageRunner):
    """What the server runs; it makes one object and keeps it for all runs.

    To load a model once, write `load_assets(self)`: `self.fetch_asset("files/model.npz")`
    opens a file of this folder, and what is set on `self` there is set in every run.
    `self.device` is "cpu" or "cuda".
    """

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Stretch the contrast of each slice.

        Args:
            data: (N, Y, X) or (N, Y, X, 3): the slices of all inputs, of one shape and
                dtype (uint8, int16, uint16, int32, float16, float32 or float64), with
                the intensities of the files.
            args: a value for every parameter in pyproject.toml: `saturated`, float,
                percent.

        Returns:
            (N, Y, X) or (N, Y, X, 3): a slice for each slice of `data`, of any image
            dtype.
        """
        result = np.empty_like(data)
        for index, image in enumerate(data):
            result[index] = stretch(image, args["saturated"])
            self.set_progress((index + 1) / len(data))
        self.log_message(f"Stretched the contrast of {len(data)} slices.")
        return result
