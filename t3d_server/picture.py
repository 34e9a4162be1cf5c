"""Draws one picture file of many views: inputs beside results, as tiles with captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.views import view_features, view_image, view_labels

TILE_PIXELS = 300
GAP_PIXELS = 14
LINE_PIXELS = 22
FONT_PIXELS = 16
BACKGROUND = (255, 255, 255)
INK = (30, 30, 30)
FAINT_INK = (110, 110, 110)

MOST_NUMBERS = 9
"""An array of more is shown as its shape, or as a picture."""
LINE_LETTERS = 34
TILES_A_ROW = 6

Titled = tuple[str, Mapping[str, Any]]
"""A title, such as the name of a file, and a dataset."""

Row = tuple[Sequence[Titled], Sequence[Titled]]
"""Inputs, results."""

Tile = tuple[str, np.ndarray]
"""A caption, whose second line is set fainter, and a picture, uint8 (Y, X) or (Y, X, 3)."""


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG that shows inputs, then results: all that they hold, each under its title and key.

    Args:
        rows: one below the other; a mask lies over the image that its own dataset or the input at its place has.
        path: the file to write.
    """
    drawn = []
    for inputs, results in rows:
        images = [_image_of(values) for _, values in inputs]
        tiles = []
        for index, (title, values) in enumerate(inputs):
            tiles += _tiles(title, values, images[index])
        for index, (title, values) in enumerate(results):
            own = _image_of(values)
            tiles += _tiles(title, values, images[index] if own is None and index < len(images) else own)
        drawn += [tiles[start : start + TILES_A_ROW] for start in range(0, len(tiles), TILES_A_ROW)]
    draw_tiles(drawn, path)


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


def _image_of(values: Mapping[str, Any]) -> np.ndarray | None:
    image = values.get("image")
    return None if image is None else view_image(np.asarray(image), values.get("axes"))


def _tiles(title: str, values: Mapping[str, Any], image: np.ndarray | None) -> list[Tile]:
    """Everything that a dataset holds: pictures of what can be seen, a mask over an image, and the rest in words."""
    tiles, rest = [], {}
    axes = values.get("axes")
    for key, value in values.items():
        if value is None or key in ("axes", "spacing", "spacing_unit"):
            continue
        array = np.asarray(value)
        picture = _view(key, array, image)
        if picture is None:
            rest[key] = array
        else:
            tiles.append((f"{_cut(title)}\n{_cut(key)}{_part_shown(key, array, axes)}", picture))
    return tiles + ([(f"{_cut(title)}\n{_cut(', '.join(rest))}", _view_text(rest))] if rest else [])


def _view(key: str, array: np.ndarray, image: np.ndarray | None) -> np.ndarray | None:
    """One value as a picture; None of what is none."""
    if key == "image":
        return image
    if key == "mask":
        fits = image is not None and image.shape[:2] == array.shape[-2:]
        return view_labels(array, image if fits else None)
    if key == "features":
        return view_features(array)
    seen = array.dtype.kind in "fiub" and array.ndim in (2, 3) and array.size and sorted(array.shape)[-2] > MOST_NUMBERS
    return view_image(array, "ZYX" if key == "volume" else None) if seen else None


def _part_shown(key: str, array: np.ndarray, axes: str | None) -> str:
    """Which part of an array its picture shows, if not all."""
    if key == "features":
        return f", mean of {len(array)} channels" if array.ndim == 3 else ""
    if key in ("mask", "volume"):
        axes = "ZYX"[-array.ndim :]
    elif key != "image":
        axes = None
    is_stack = array.ndim > 2 and resolve_axes(array.shape, axes).startswith("Z")
    return f", slice {len(array) // 2 + 1} of {len(array)}" if is_stack else ""


def _cut(text: str) -> str:
    """Text that fits over a tile."""
    return text if len(text) <= LINE_LETTERS else f"{text[: LINE_LETTERS // 2]}...{text[3 - LINE_LETTERS // 2 :]}"


def _view_text(values: Mapping[str, np.ndarray]) -> np.ndarray:
    tile = Image.new("RGB", (TILE_PIXELS, TILE_PIXELS), (245, 245, 245))
    lines = []
    for key, array in values.items():
        small = array.size <= MOST_NUMBERS and (array.dtype.kind in "fiub" or not array.ndim)
        text = np.array2string(array, precision=3, suppress_small=True) if small else str(array.shape)
        lines.append(f"{key}:\n{text}")
    ImageDraw.Draw(tile).multiline_text((8, 8), "\n".join(lines)[:600], fill=INK, font=ImageFont.load_default(13))
    return np.asarray(tile)
