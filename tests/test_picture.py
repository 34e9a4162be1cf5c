"""The picture of inputs beside results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t3d_server.picture import GAP_PIXELS, TILE_PIXELS, _tiles, draw_rows


@pytest.mark.parametrize(
    ("shape", "axes", "white"),
    [
        ((8, 8), None, np.s_[4:]),
        ((3, 8, 8), None, np.s_[:, 4:]),
        ((3, 8, 8), "ZYX", np.s_[:, 4:]),
        ((3, 8, 8, 3), None, np.s_[:, 4:]),
        ((8, 8, 4), None, np.s_[4:]),
        ((8, 8, 3), "ZYX", np.s_[:, 4:]),
    ],
)
def test_every_kind_of_image_is_shown_the_right_way_up(
    tmp_path: Path, shape: tuple[int, ...], axes: str | None, white: tuple[slice, ...]
) -> None:
    """Its lower half is white here, its upper one black, whatever its axes are."""
    image = np.zeros(shape, np.uint8)
    image[white] = 255
    draw_rows([([("", {"image": image, "axes": axes})], [])], tmp_path / "picture.png")
    sheet = np.asarray(Image.open(tmp_path / "picture.png"))
    tile = sheet[-TILE_PIXELS - GAP_PIXELS : -GAP_PIXELS, GAP_PIXELS : GAP_PIXELS + TILE_PIXELS // 4]
    assert tile[: TILE_PIXELS // 4].max() == 0
    assert tile[-TILE_PIXELS // 4 :].min() == 255


def test_results_of_every_type_are_drawn(tmp_path: Path) -> None:
    """Masks lie over their images, features are maps, and what is no picture is told in words."""
    image = {"image": np.full((40, 60), 100, np.uint8)}
    mask = np.zeros((40, 60), np.int32)
    mask[10:30, 10:30] = 1
    results: list[dict[str, Any]] = [{"mask": mask}, {"features": np.arange(9.0)}, {"transform_matrix": np.eye(3)}]
    draw_rows([([("a.png", image)], [("result", result)]) for result in results], tmp_path / "picture.png")

    sheet = np.asarray(Image.open(tmp_path / "picture.png"))
    right = sheet[:, 2 * GAP_PIXELS + TILE_PIXELS : -GAP_PIXELS]
    assert right.shape[1] == TILE_PIXELS
    tinted = right.max(axis=-1) - right.min(axis=-1) > 50
    assert tinted.any()
    assert (right == 100).all(axis=-1).any()  # the image beside the object


def test_a_dataset_is_shown_whole_and_captions_tell_what_is_not() -> None:
    """Its image and mask are pictures, the slice of which is told; the rest is told in words."""
    stack = np.zeros((10, 20, 30), np.uint8)
    values = {"image": stack, "mask": stack, "points": np.zeros((7, 3)), "axes": "ZYX", "note": "text"}
    captions = [caption for caption, _ in _tiles("a.tif", values, stack[5])]
    assert captions == ["a.tif\nimage, slice 6 of 10", "a.tif\nmask, slice 6 of 10", "a.tif\npoints, note"]
    [(caption, picture)] = _tiles("result 2 of 4", {"difference": np.zeros((20, 30))}, None)
    assert (caption, picture.shape) == ("result 2 of 4\ndifference", (20, 30))
