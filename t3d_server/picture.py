"""One picture of inputs beside results, for people who would rather see than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from t3d_server.algorithm_utils.axes import resolve_axes

TILE_PIXELS = 256
GAP_PIXELS = 12
CAPTION_PIXELS = 20
MOST_IN_A_COLUMN = 4
BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)

Row = tuple[str, Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
"""A caption, input datasets, output datasets."""


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG that shows each run: its first inputs, then its first outputs.

    Args:
        rows: what to show; more than four runs are set in two columns.
        path: the file to write.
    """
    drawn = [_row(row) for row in rows]
    columns = 1 if len(drawn) <= MOST_IN_A_COLUMN else 2
    lines = -(-len(drawn) // columns)
    width = max((row.width for row in drawn), default=1)
    height = TILE_PIXELS + CAPTION_PIXELS
    size = (GAP_PIXELS + columns * (width + 2 * GAP_PIXELS), GAP_PIXELS + lines * (height + GAP_PIXELS))
    sheet = Image.new("RGB", size, BACKGROUND)
    for index, row in enumerate(drawn):
        column, line = divmod(index, lines)
        sheet.paste(row, (GAP_PIXELS + column * (width + 2 * GAP_PIXELS), GAP_PIXELS + line * (height + GAP_PIXELS)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")


def _row(row: Row) -> Image.Image:
    """The tiles of a run side by side, each under its caption."""
    tiles = _tiles(row)
    drawn = Image.new("RGB", (len(tiles) * (TILE_PIXELS + GAP_PIXELS), TILE_PIXELS + CAPTION_PIXELS), BACKGROUND)
    draw = ImageDraw.Draw(drawn)
    for index, (caption, tile) in enumerate(tiles):
        left = index * (TILE_PIXELS + GAP_PIXELS)
        draw.text((left, 0), caption, fill=INK, font=ImageFont.load_default(13))
        drawn.paste(tile, (left, CAPTION_PIXELS))
    return drawn


def _tiles(row: Row) -> list[tuple[str, Image.Image]]:
    caption, inputs, outputs = row
    shown = [(f"{caption}: input", values) for values in inputs[:2]] + [("result", values) for values in outputs[:2]]
    return [(title, _tile(values)) for title, values in shown]


def _tile(values: Mapping[str, Any]) -> Image.Image:
    """A dataset as a square tile: its image, mask, features or matrix."""
    if values.get("mask") is not None and values.get("image") is None:
        picture = _labels(_plane(np.asarray(values["mask"])))
    elif values.get("image") is not None:
        picture = _grey_or_colour(np.asarray(values["image"]), values.get("axes"))
    elif values.get("features") is not None:
        picture = _features(np.asarray(values["features"]))
    else:
        return _text(values)
    image = Image.fromarray(picture)
    scale = TILE_PIXELS / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.NEAREST if scale > 1 or values.get("image") is None else Image.Resampling.BOX
    return image.resize(size, smooth)


def _plane(array: np.ndarray) -> np.ndarray:
    """The middle slice of a stack."""
    while array.ndim > 2:
        array = array[len(array) // 2]
    return array


def _grey_or_colour(image: np.ndarray, axes: str | None) -> np.ndarray:
    """uint8 (Y, X) or (Y, X, 3), contrast stretched between the 1st and 99th percentile."""
    axes = resolve_axes(image.shape, axes)
    if axes == "CYX":
        image = np.moveaxis(image, 0, -1)
    if axes.startswith("Z"):
        image = image[len(image) // 2]
    if "C" in axes:
        image = image[..., :3]
    values = np.nan_to_num(image.astype(np.float32))
    low, high = (0, 255) if image.dtype == np.uint8 else np.percentile(values, (1, 99))
    stretched: np.ndarray = np.clip((values - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
    return stretched


def _labels(mask: np.ndarray) -> np.ndarray:
    """uint8 (Y, X, 3): each label in a colour of its own, background black."""
    hues = (mask.astype(np.int64) * 0.618034) % 1.0  # the golden ratio keeps neighbouring labels apart
    channels = [np.clip(np.abs((hues * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2)]
    colours: np.ndarray = (np.stack(channels, axis=-1) * 255 * (mask != 0)[..., np.newaxis]).astype(np.uint8)
    return colours


def _features(features: np.ndarray) -> np.ndarray:
    """uint8 (Y, X): the features as a map, a vector row by row."""
    if features.ndim == 3:
        features = features.mean(axis=0)
    if features.ndim != 2:
        flat = features.ravel()
        side = int(np.ceil(np.sqrt(flat.size)))
        features = np.pad(flat, (0, side * side - flat.size)).reshape(side, side)
    return _grey_or_colour(features, "YX")


def _text(values: Mapping[str, Any]) -> Image.Image:
    """A tile that lists what there is, for datasets that are no picture."""
    tile = Image.new("RGB", (TILE_PIXELS, TILE_PIXELS), (245, 245, 245))
    lines = []
    for key, value in values.items():
        array = np.asarray(value)
        small = array.size <= 9 and array.dtype.kind in "fiub"
        text = np.array2string(array, precision=3, suppress_small=True) if small else str(array.shape)
        lines.append(f"{key}:\n{text}")
    ImageDraw.Draw(tile).multiline_text((8, 8), "\n".join(lines)[:600], fill=INK, font=ImageFont.load_default(12))
    return tile
