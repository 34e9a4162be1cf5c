"""The picture of inputs beside results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t3d_server.picture import CAPTION_PIXELS, GAP_PIXELS, TILE_PIXELS, draw_rows


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
    left, top = 2 * GAP_PIXELS - GAP_PIXELS, GAP_PIXELS + CAPTION_PIXELS
    tile = np.asarray(Image.open(tmp_path / "picture.png"))[top : top + TILE_PIXELS, left : left + TILE_PIXELS // 4]
    assert tile[: TILE_PIXELS // 4].max() == 0
    assert tile[-TILE_PIXELS // 4 :].min() == 255
