"""Finds how images are shifted: the place for your own Image2Alignment algorithm."""

from typing import Any

import numpy as np
from t3d_server.algorithm_utils import Image2AlignmentRunner


def find_shift(fixed: np.ndarray, moving: np.ndarray, method: str) -> tuple[int, int]:
    """The shift that moves one image onto another, at the peak of their correlation.

    Args:
        fixed: (Y, X), any intensity range.
        moving: likewise, of the same shape.
        method: "plain" takes the images as they are, "phase" gives each spatial
            frequency the same weight.

    Returns:
        (y, x) in whole pixels: what is at p in `moving` is at p + (y, x) in `fixed`.
    """
    transforms = [np.fft.fft2(image - image.mean()) for image in (fixed, moving)]
    spectrum = transforms[0] * np.conj(transforms[1])
    if method == "phase":
        spectrum /= np.maximum(np.abs(spectrum), 1e-12)
    correlation = np.fft.ifft2(spectrum).real
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    # The transform goes round: beyond the middle are the shifts to the other side.
    y, x = (
        int(at) if at <= size // 2 else int(at) - size
        for at, size in zip(peak, fixed.shape, strict=True)
    )
    return y, x


class Runner(Image2AlignmentRunner):
    """What the server runs; it makes one object and keeps it for all runs.

    To load a model once, write `load_assets(self)`: `self.fetch_asset("files/model.npz")`
    opens a file of this folder, and what is set on `self` there is set in every run.
    `self.device` is "cpu" or "cuda".
    """

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Align each slice with the one before.

        Args:
            data: (N, Y, X) or (N, Y, X, 3), N at least 2: the slices of all inputs, of
                one shape and dtype (uint8, int16, uint16, int32, float16, float32 or
                float64), with the intensities of the files.
            args: a value for every parameter in pyproject.toml: `method`, "plain" or
                "phase".

        Returns:
            float64 (N-1, 3, 3): homogeneous matrices that act on (x, y) coordinates of
            pixel centres and map slice i+1 onto slice i.
        """
        grey = data.mean(axis=-1) if data.ndim == 4 else data
        matrices = np.tile(np.eye(3), (len(grey) - 1, 1, 1))
        for index, matrix in enumerate(matrices):
            y, x = find_shift(grey[index], grey[index + 1], args["method"])
            matrix[:2, 2] = x, y
            self.set_progress((index + 1) / len(matrices))
            self.log_message(f"Slice {index + 1} is moved by x {x}, y {y} pixels.")
        return matrices
