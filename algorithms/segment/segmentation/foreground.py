"""From an image to the pixels that belong to objects."""

import math
from collections.abc import Callable

import numpy as np
from skimage import filters
from skimage.color import rgb2gray
from skimage.morphology import disk, opening
from skimage.transform import resize

GLOBAL_METHODS: dict[str, Callable[[np.ndarray], float]] = {
    "otsu": filters.threshold_otsu,
    "li": filters.threshold_li,
    "triangle": filters.threshold_triangle,
    "yen": filters.threshold_yen,
    "isodata": filters.threshold_isodata,
}
OPENING_RADIUS = 8  # pixels of the reduced image; finer backgrounds follow the noise, and take longer


def to_grey(image: np.ndarray) -> np.ndarray:
    """The luminance of an image, in its own intensity units.

    Args:
        image: (Y, X) or (Y, X, 3), any image dtype.

    Returns:
        float32 or float64 (Y, X).
    """
    values = image.astype(np.result_type(image.dtype, np.float32))
    grey: np.ndarray = rgb2gray(values) if image.ndim == 3 else values
    return grey


def prominence(grey: np.ndarray, objects: str, smoothing: float, background: int) -> np.ndarray:
    """Smooth an image, make its objects bright, and take the background away.

    Args:
        grey: float (Y, X), any intensity range.
        objects: "bright" or "dark".
        smoothing: standard deviation of the blur in pixels; 0 for none.
        background: radius in pixels, larger than that of the objects; 0 leaves the background.

    Returns:
        float (Y, X), intensity units of `grey`: negated for dark objects, above the background where it is taken away.
    """
    smooth = filters.gaussian(grey, smoothing, preserve_range=True) if smoothing else grey
    raised: np.ndarray = -smooth if objects == "dark" else smooth
    return raised - background_of(raised, background) if background else raised


def background_of(image: np.ndarray, radius: int) -> np.ndarray:
    """What is left of an image without the bright objects that a disk of this radius does not fit into.

    Args:
        image: float (Y, X).
        radius: in pixels, at least 1.

    Returns:
        float (Y, X).
    """
    step = max(1.0, radius / OPENING_RADIUS)
    reduced_shape = [math.ceil(side / step) for side in image.shape]
    # A background is smooth: a reduced image has it without the noise, to which the opening's minimum would cling.
    reduced = resize(image, reduced_shape, anti_aliasing=True, preserve_range=True)
    opened = opening(reduced, disk(min(radius, OPENING_RADIUS)))
    background: np.ndarray = resize(opened, image.shape, preserve_range=True)
    return background


def above_level(raised: np.ndarray, grey: np.ndarray, method: str) -> tuple[np.ndarray, float]:
    """Pixels of bright objects by one threshold for all of them.

    Args:
        raised: float (Y, X), the prominence of `grey`.
        grey: float (Y, X).
        method: one of `GLOBAL_METHODS`.

    Returns:
        bool (Y, X), and the threshold in intensity units of `raised`.
    """
    # In an even image nothing stands out, but rounding in the blur makes differences.
    level = raised.max() if np.ptp(grey) == 0 else GLOBAL_METHODS[method](raised)
    return raised > level, float(level)


def above_surroundings(raised: np.ndarray, grey: np.ndarray, radius: int) -> np.ndarray:
    """Pixels of bright objects by Sauvola's threshold for the surroundings of each.

    Args:
        raised: float (Y, X), the prominence of `grey`.
        grey: float (Y, X).
        radius: of the surroundings in pixels.

    Returns:
        bool (Y, X).
    """
    contrast = np.ptp(raised)
    if min(np.ptp(grey), contrast) == 0:
        return np.zeros(raised.shape, bool)
    # The method was made for dark ink on bright paper and leans on what black and white are.
    paper = (raised.max() - raised) / contrast
    mask: np.ndarray = paper < filters.threshold_sauvola(paper, window_size=2 * radius + 1, k=0.2, r=0.5)
    return mask
