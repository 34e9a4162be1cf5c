"""Run these by `pytest`; they need no server."""

from pathlib import Path

import numpy as np
from t3d_server.testing import run

FOLDER = Path(__file__).parents[1]
IMAGE = np.full((16, 16), 100, np.uint16)
IMAGE[4:8, 5:9] = 900


def test_bright_squares_are_foreground() -> None:
    [result] = run(FOLDER, IMAGE)

    np.testing.assert_array_equal(result["mask"], IMAGE == 900)


def test_what_is_dark_can_be_foreground() -> None:
    [result] = run(FOLDER, IMAGE, {"foreground": "dark"})

    np.testing.assert_array_equal(result["mask"], IMAGE == 100)
