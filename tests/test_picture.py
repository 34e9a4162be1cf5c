"""The picture of inputs beside results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t3d_server.picture import GAP_PIXELS, TILE_PIXELS, draw_rows


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
    draw_rows([("", [{"image": image, "axes": axes}], [])], tmp_path / "picture.png")
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
    draw_rows([("a row", [image], [result]) for result in results], tmp_path / "picture.png")

    sheet = np.asarray(Image.open(tmp_path / "picture.png"))
    right = sheet[:, 2 * GAP_PIXELS + TILE_PIXELS : -GAP_PIXELS]
    assert right.shape[1] == TILE_PIXELS
    tinted = right.max(axis=-1) - right.min(axis=-1) > 50
    assert tinted.any()
    assert (right == 100).all(axis=-1).any()  # the image beside the object
