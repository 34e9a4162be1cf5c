"""Run these by `pytest`; they need no server."""

from pathlib import Path

import numpy as np
from t3d_server.testing import run

FOLDER = Path(__file__).parents[1]
IMAGE = np.random.default_rng(1).integers(0, 200, (40, 60)).astype(np.uint8)


def test_the_vector_has_the_length_that_is_asked_for() -> None:
    [result] = run(FOLDER, IMAGE, {"dimensions": 64})

    assert result["features"].shape == (64,)
    assert result["original_size"].tolist() == [40, 60]


def test_brightness_changes_nothing() -> None:
    first, second = run(FOLDER, [IMAGE, IMAGE + 50])

    np.testing.assert_allclose(first["features"], second["features"], atol=1e-5)
