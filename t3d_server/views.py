"""Turns one array into uint8 pixels to look at: images, masks, features and matrices."""

from __future__ import annotations

import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes

TINT = 0.35  # how much of an object's colour lies over the image
VIRIDIS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
"""Colours from low to high that are told apart in grey and by colour-blind people too (matplotlib's default)."""


def view_image(image: np.ndarray, axes: str | None = None) -> np.ndarray:
    """An image, or the middle slice of a stack.

    Args:
        image: any shape and dtype of an `image`.
        axes: such as "ZYX"; guessed from the shape where None.

    Returns:
        uint8 (Y, X) or (Y, X, 3): uint8 as it is, others with the contrast stretched from the 1st to the 99th
        percentile.
    """
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


def view_labels(mask: np.ndarray, image: np.ndarray | None = None) -> np.ndarray:
    """Objects in colours of their own, over an image.

    Args:
        mask: integers (Y, X) or (Z, Y, X), of which the middle slice is shown; 0 is background.
        image: uint8 (Y, X) or (Y, X, 3) behind it; black where None.

    Returns:
        uint8 (Y, X, 3): the objects tinted and outlined; without an image in full colour.
    """
    mask = _plane(mask)
    colours = _colours(mask)
    if image is None:
        return colours
    behind = np.broadcast_to(image if image.ndim == 3 else image[..., np.newaxis], colours.shape)
    around = np.pad(mask, 1, mode="edge")
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    outlined = np.logical_or.reduce([mask != neighbour for neighbour in neighbours])
    tint = np.where(outlined, 1, TINT) * (mask != 0)
    shown: np.ndarray = (behind + (colours.astype(np.float32) - behind) * tint[..., np.newaxis]).astype(np.uint8)
    return shown


def view_pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two images on each other: grey where they agree, else red (`first`) or cyan (`second`).

    Args:
        first: uint8 (Y, X).
        second: uint8 (Y, X).

    Returns:
        uint8 (Y, X, 3).
    """
    return np.stack([first, second, second], axis=-1)


def view_matrix(values: np.ndarray) -> np.ndarray:
    """Numbers as colours, from dark blue (the lowest) to yellow (the highest).

    Args:
        values: numbers (rows, columns).

    Returns:
        uint8 (rows, columns, 3).
    """
    share = (values - values.min()) / max(np.ptp(values), 1e-12)
    stops = np.linspace(0, 1, len(VIRIDIS))
    return np.stack([np.interp(share, stops, VIRIDIS[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)


def view_features(features: np.ndarray) -> np.ndarray:
    """Features as a map: the mean of the channels of (C, h, w), a vector row by row.

    Args:
        features: floats (C, h, w), (D,) or several of those.

    Returns:
        uint8 (Y, X).
    """
    if features.ndim == 3:
        features = features.mean(axis=0)
    if features.ndim != 2:
        flat = features.ravel()
        side = int(np.ceil(np.sqrt(flat.size)))
        features = np.pad(flat, (0, side * side - flat.size)).reshape(side, side)
    return view_image(features, "YX")


def _plane(array: np.ndarray) -> np.ndarray:
    """The middle slice of a stack."""
    while array.ndim > 2:
        array = array[len(array) // 2]
    return array


def _colours(mask: np.ndarray) -> np.ndarray:
    """uint8 (Y, X, 3): each label in a colour, background black."""
    hues = (np.arange(256) * 0.618034 + 0.46) % 1.0  # the golden ratio keeps neighbours apart; 1 is orange
    channels = [np.clip(np.abs((hues * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2)]
    palette = (np.stack(channels, axis=-1) * 255).astype(np.uint8)
    palette[0] = 0
    # Only a label that is not 0 has a colour; the palette comes round after 255 of them.
    colours: np.ndarray = palette[np.where(mask == 0, 0, (mask.astype(np.int64) - 1) % 255 + 1)]
    return colours
