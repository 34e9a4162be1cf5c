"""Run these by `pytest`; they need no server."""

from pathlib import Path

import numpy as np
import pytest
from t3d_server.testing import run

FOLDER = Path(__file__).parents[1]
IMAGE = np.random.default_rng(1).normal(size=(32, 48))


@pytest.mark.parametrize("method", ["phase", "plain"])
def test_a_shift_is_found(method: str) -> None:
    """What is 5 rows too low and 3 columns too far left is moved up and to the right."""
    shifted = np.roll(IMAGE, (5, -3), axis=(0, 1))

    [result] = run(FOLDER, [IMAGE, shifted], {"method": method})

    expected = [[1, 0, 3], [0, 1, -5], [0, 0, 1]]
    np.testing.assert_array_equal(result["transform_matrix"], expected)


def test_a_stack_gives_a_matrix_for_each_slice_but_the_first() -> None:
    stack = np.stack([IMAGE] * 5)

    assert len(run(FOLDER, stack)) == 4
