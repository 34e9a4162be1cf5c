"""Run these by `pytest`; they need no server."""

from pathlib import Path

import numpy as np
from t3d_server.testing import run

FOLDER = Path(__file__).parents[1]


def test_the_contrast_fills_the_range_of_the_dtype() -> None:
    image = np.linspace(100, 150, 48).astype(np.uint8).reshape(6, 8)

    [result] = run(FOLDER, image, {"saturated": 0})

    assert result["image"].dtype == np.uint8
    assert result["image"].min() == 0
    assert result["image"].max() == 255


def test_each_input_gives_one_result() -> None:
    image, stack = np.zeros((6, 8), np.float32), np.zeros((5, 6, 8), np.float32)

    results = run(FOLDER, [image, stack])

    assert [result["image"].shape for result in results] == [(6, 8), (5, 6, 8)]
