"""Axes that an image has."""

from __future__ import annotations

import pytest

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.errors import InvalidDatasetError


@pytest.mark.parametrize(
    ("shape", "said", "axes"),
    [
        ((5, 6), None, "YX"),
        ((5, 6, 3), None, "YXC"),
        ((5, 6, 4), None, "YXC"),
        ((3, 5, 6), None, "CYX"),
        ((3, 5, 4), None, "YXC"),
        ((4, 5, 6), None, "ZYX"),
        ((2, 5, 6, 3), None, "ZYXC"),
        ((3, 5, 6), "zyx", "ZYX"),
        ((5, 6, 3), "ZYX", "ZYX"),
        ((4, 5, 6), "CYX", "CYX"),
    ],
)
def test_axes_are_those_stated_or_those_the_shape_suggests(shape: tuple[int, ...], said: str | None, axes: str) -> None:
    assert resolve_axes(shape, said) == axes


@pytest.mark.parametrize(
    ("shape", "said", "message"),
    [
        ((5,), None, r"shape \(5,\) is not that of an image"),
        ((2, 5, 6, 7), None, "not that of an image"),
        ((5, 6), "ZYX", r"axes 'ZYX' do not fit shape \(5, 6\)"),
        ((2, 5, 6), "TYX", "'TYX' are not supported; allowed are YX, YXC, CYX, ZYX, ZYXC"),
        ((2, 5, 6), "CYX", "3 or 4 channels, not 2"),
    ],
)
def test_axes_that_no_image_has_are_refused(shape: tuple[int, ...], said: str | None, message: str) -> None:
    with pytest.raises(InvalidDatasetError, match=message):
        resolve_axes(shape, said)
