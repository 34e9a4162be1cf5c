"""Spacing, and what the well-known keys may hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from t3d_server.datasets.conventions import ArrayLike, check, check_spacing
from t3d_server.errors import InvalidDatasetError, Problem


@pytest.mark.parametrize(
    ("spacing", "axes"),
    [
        ((1, 2), "ZYX"),
        ((1, 2, 3), "YXC"),
        ((0, 1), "YX"),
        ((-1, 1), "YX"),
        ((math.nan, 1), None),
        ((), None),
        (1, None),
        ("1,2", None),
        ([[1, 2]], None),
    ],
)
def test_spacing_that_does_not_fit_is_refused(spacing: Any, axes: str | None) -> None:
    with pytest.raises(InvalidDatasetError, match="spacing"):
        check_spacing(spacing, axes)


def test_spacing_has_one_number_for_each_axis_but_colour() -> None:
    assert check_spacing([2, 0.5, 0.5], "ZYXC") == (2.0, 0.5, 0.5)


def test_every_broken_convention_is_told_at_once() -> None:
    problems: list[Problem] = []
    arrays: dict[str, ArrayLike] = {"image": np.zeros((4, 5), np.uint32), "mask": np.zeros((4, 6), np.uint8)}
    check(arrays, {"spacing": [1.0], "spacing_unit": 3}, problems)
    assert [problem.key for problem in problems] == ["spacing_unit", "image", "mask", "spacing"]


@pytest.mark.parametrize(
    ("key", "shape"), [("image", (0, 5)), ("image", (4, 0, 3)), ("mask", (0,)), ("volume", (2, 0, 5))]
)
def test_an_image_without_pixels_is_refused(key: str, shape: tuple[int, ...]) -> None:
    problems: list[Problem] = []
    arrays: dict[str, ArrayLike] = {key: np.zeros(shape, np.uint8)}
    check(arrays, {}, problems)
    assert f"{key}: is empty: shape {shape} has an axis of length 0" in map(str, problems)
