"""One picture of inputs beside results, for people who would rather see than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from t3d_server.views import view_features, view_image, view_labels

TILE_PIXELS = 300
GAP_PIXELS = 14
LINE_PIXELS = 22
FONT_PIXELS = 16
BACKGROUND = (255, 255, 255)
INK = (30, 30, 30)
FAINT_INK = (110, 110, 110)

Row = tuple[str, Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
"""A caption, input datasets, output datasets."""

Tile = tuple[str, np.ndarray]
"""A caption, whose second line is set fainter, and a picture, uint8 (Y, X) or (Y, X, 3)."""


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG that shows each run: its first two inputs, then its first two outputs.

    Args:
        rows: the runs, one below the other.
        path: the file to write.
    """
    draw_tiles([_tiles(*row) for row in rows], path)


def draw_tiles(rows: Sequence[Sequence[Tile]], path: Path) -> None:
    """Write pictures under their captions, as PNG or JPEG.

    Args:
        rows: pictures side by side, one row below the other; each is scaled to the width or height of a tile.
        path: the file to write.
    """
    drawn = [_row(tiles) for tiles in rows if tiles]
    width = max((row.width for row in drawn), default=0) + 2 * GAP_PIXELS
    height = sum(row.height + GAP_PIXELS for row in drawn) + GAP_PIXELS
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    top = GAP_PIXELS
    for row in drawn:
        sheet.paste(row, (GAP_PIXELS, top))
        top += row.height + GAP_PIXELS
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True, quality=80)  # PNG has no quality, and ignores it


def _row(tiles: Sequence[Tile]) -> Image.Image:
    """Pictures side by side."""
    pictures = [_scaled(picture) for _, picture in tiles]
    captions = [caption.split("\n") for caption, _ in tiles]
    caption_height = LINE_PIXELS * max(map(len, captions)) + LINE_PIXELS // 4
    width = len(tiles) * (TILE_PIXELS + GAP_PIXELS) - GAP_PIXELS
    drawn = Image.new("RGB", (width, caption_height + max(picture.height for picture in pictures)), BACKGROUND)
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(FONT_PIXELS)
    for index, (lines, picture) in enumerate(zip(captions, pictures, strict=True)):
        left = index * (TILE_PIXELS + GAP_PIXELS)
        for line, text in enumerate(lines):
            draw.text((left, line * LINE_PIXELS), text, fill=FAINT_INK if line else INK, font=font)
        drawn.paste(picture, (left, caption_height))
    return drawn


def _scaled(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    scale = TILE_PIXELS / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Single pixels stay squares, so that nobody takes a blur for a result.
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def _tiles(caption: str, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> list[Tile]:
    tiles = [(f"{caption}: input", _view(values)) for values in inputs[:2]]
    for index, values in enumerate(outputs[:2]):
        behind = tiles[index][1] if index < len(tiles) else None
        tiles.append(("result", _view(values, behind)))
    return tiles


def _view(values: Mapping[str, Any], behind: np.ndarray | None = None) -> np.ndarray:
    """A dataset as a picture: its image, its mask (over what is behind it), its features, or a list of what it has."""
    if values.get("image") is not None:
        return view_image(np.asarray(values["image"]), values.get("axes"))
    if values.get("mask") is not None:
        mask = np.asarray(values["mask"])
        fits = behind is not None and behind.shape[:2] == mask.shape[-2:]
        return view_labels(mask, behind if fits else None)
    if values.get("features") is not None:
        return view_features(np.asarray(values["features"]))
    return _view_text(values)


def _view_text(values: Mapping[str, Any]) -> np.ndarray:
    tile = Image.new("RGB", (TILE_PIXELS, TILE_PIXELS), (245, 245, 245))
    lines = []
    for key, value in values.items():
        array = np.asarray(value)
        small = array.size <= 9 and array.dtype.kind in "fiub"
        text = np.array2string(array, precision=3, suppress_small=True) if small else str(array.shape)
        lines.append(f"{key}:\n{text}")
    ImageDraw.Draw(tile).multiline_text((8, 8), "\n".join(lines)[:600], fill=INK, font=ImageFont.load_default(13))
    return np.asarray(tile)
