"""Run these by `pytest`; they need no server."""

from pathlib import Path

import numpy as np
from t3d_server.testing import run

FOLDER = Path(__file__).parents[1]


def test_each_image_is_measured() -> None:
    dark, bright = np.zeros((6, 8), np.uint8), np.full((4, 4), 200, np.uint8)

    first, second = run(FOLDER, [dark, bright], {"bins": 4})

    assert (first["mean"], second["mean"]) == (0, 200)
    assert first["counts"].shape == (4,)
    assert first["counts"].sum() == dark.size
