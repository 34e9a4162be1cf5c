"""From the pixels of objects to numbered objects."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage
from segmentation.conditions import Condition
from skimage.measure import label, regionprops_table
from skimage.morphology import h_maxima, isotropic_closing, isotropic_opening
from skimage.segmentation import clear_border, watershed

CLEANUPS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "fill_holes": lambda mask, radius: ndimage.binary_fill_holes(mask),
    "open": isotropic_opening,
    "close": isotropic_closing,
}
CORNERS_CONNECT = 2  # pixels that meet at a corner are of one object


def clean_up(mask: np.ndarray, steps: Sequence[str], radius: int) -> np.ndarray:
    """Apply steps to a mask, one after the other.

    Args:
        mask: bool (Y, X).
        steps: keys of `CLEANUPS`.
        radius: of opening and closing, in pixels.

    Returns:
        bool (Y, X).
    """
    for step in steps:
        mask = CLEANUPS[step](mask, radius)
    return mask


def number(mask: np.ndarray, split: float) -> np.ndarray:
    """Number the objects of a mask, and split those that touch.

    Args:
        mask: bool (Y, X).
        split: how much thinner than both objects a neck must be, at half its width, in pixels; 0 splits nothing.

    Returns:
        int32 (Y, X), objects from 1.
    """
    components: np.ndarray = label(mask, connectivity=CORNERS_CONNECT).astype(np.int32)
    if not split or not mask.any():
        return components
    depth = ndimage.distance_transform_edt(mask)
    cores = label(h_maxima(depth, split), connectivity=CORNERS_CONNECT)
    coreless = mask & ~np.isin(components, components[cores > 0])  # thinner than `split` throughout
    cores[coreless] = components[coreless] + cores.max()
    split_labels: np.ndarray = watershed(-depth, cores, mask=mask, connectivity=CORNERS_CONNECT)
    return split_labels


def select(
    labels: np.ndarray, grey: np.ndarray, borders: Sequence[bool], conditions: Sequence[Condition]
) -> np.ndarray:
    """Remove objects, and number those that stay.

    Args:
        labels: int32 (Y, X), 0 is background.
        grey: float (Y, X), for conditions about intensities.
        borders: whether to remove the objects at the top, right, bottom and left border.
        conditions: what objects must fulfil to stay.

    Returns:
        int32 (Y, X), objects from 1 without gaps.
    """
    inside = np.ones(labels.shape, bool)
    edges = (inside[0], inside[:, -1], inside[-1], inside[:, 0])
    for edge, cleared in zip(edges, borders, strict=True):
        if cleared:
            edge[...] = False
    labels = clear_border(labels, mask=inside)  # objects that overlap what is outside of the mask
    table = regionprops_table(labels, grey, properties=["label", *{condition.name for condition in conditions}])
    stays = np.logical_and.reduce([condition.holds(table[condition.name]) for condition in conditions])
    numbers = np.zeros(labels.max() + 1, np.int32)
    numbers[table["label"][stays]] = np.arange(1, stays.sum() + 1)
    selected: np.ndarray = numbers[labels]
    return selected
