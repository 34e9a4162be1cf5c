"""Refines an alignment on the intensities, from blurred to sharp.

Inverse-compositional Gauss-Newton steps (S. Baker, I. Matthews, *Lucas-Kanade 20 years on: a unifying framework*,
Int. J. Comput. Vis. 56, 2004) with a gain and an offset of the intensities as further unknowns, and Huber's weights.

A matrix is 3x3, homogeneous, acts on (x, y) pixel-centre coordinates and maps the moving image onto the fixed one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm
from scipy.ndimage import affine_transform, gaussian_filter, spline_filter

MARGIN = 2  # outermost pixels of a level, which the blur has filled from inside
LEAST_SIDE = 24  # levels are not made smaller than this, in pixels
MOST_STEPS = 50
SMALLEST_STEP = 0.002  # pixels of the level, at the corner that moves most
HUBER = 1.345  # residuals beyond so many standard deviations count less; 95 % efficient for normal noise
MAD_TO_SIGMA = 1 / 0.6745  # a normal distribution's standard deviation over its median absolute deviation
SPLINE_ORDER = 3  # linear interpolation moves sharp images by up to 0.03 pixels


def _generators(*entries: dict[tuple[int, int], float]) -> np.ndarray:
    basis = np.zeros((len(entries), 3, 3))
    for matrix, values in zip(basis, entries, strict=True):
        for place, value in values.items():
            matrix[place] = value
    return basis


_X, _Y = {(0, 2): 1.0}, {(1, 2): 1.0}
_ROTATION, _SCALE = {(0, 1): -1.0, (1, 0): 1.0}, {(0, 0): 1.0, (1, 1): 1.0}
_STRETCH, _SHEAR = {(0, 0): 1.0, (1, 1): -1.0}, {(0, 1): 1.0, (1, 0): 1.0}

MODELS = {
    "translation": _generators(_X, _Y),
    "rigid": _generators(_X, _Y, _ROTATION),
    "similarity": _generators(_X, _Y, _ROTATION, _SCALE),
    "affine": _generators(_X, _Y, _ROTATION, _SCALE, _STRETCH, _SHEAR),
}
"""Motion models by the generators of their group: the exponential of any mixture of them is a motion of the model."""


@dataclass(frozen=True)
class Level:
    """An image, blurred and shrunk.

    Attributes:
        image: float32 (y, x); NaN in the margin.
        spline: float32 (y, x), spline coefficients of the image; NaN in the margin.
        factor: pixels of the image for one of the level, along each axis; pixel 0 is pixel 0.
    """

    image: np.ndarray
    spline: np.ndarray
    factor: int


def shrink(image: np.ndarray, sigma: float, factor: int) -> np.ndarray:
    """Blur an image by `sigma` pixels and keep each `factor`-th one along each axis; float32."""
    blurred: np.ndarray = gaussian_filter(image, sigma, mode="nearest", output=np.float32)
    return blurred[::factor, ::factor]


def pyramid(image: np.ndarray, sigmas: Sequence[float]) -> list[Level]:
    """Make one level for each blur.

    Args:
        image: float (Y, X).
        sigmas: standard deviations of the blur in pixels; one of 2 or more also shrinks, as far as it may.
    """
    factors = [_factor(image, sigma) for sigma in sigmas]
    return [_level(shrink(image, sigma, factor), factor) for sigma, factor in zip(sigmas, factors, strict=True)]


def structures(image: np.ndarray, finest: float, coarsest: float) -> Level:
    """Make a level of what lies between two blurs, given in pixels: neither noise nor shading."""
    factor = _factor(image, finest)
    fine = shrink(image, finest, factor)
    return _level(fine - shrink(fine, math.sqrt(coarsest**2 - finest**2) / factor, 1), factor)


def correlate(fixed: Level, moving: Level, matrix: np.ndarray) -> tuple[float, float]:
    """Tell how well two images fit.

    Args:
        fixed: a level of the fixed image.
        moving: that of the moving image, of the same shape.
        matrix: between the full images.

    Returns:
        Pearson's correlation over what both show, -1 to 1 and 0 where one of them is flat there; and what part of the
        images that is, 0 to 1.
    """
    matrix = _rescaled(matrix, 1 / fixed.factor)
    warped = _warp(moving, matrix)
    seen = np.isfinite(warped) & np.isfinite(fixed.image)
    first, second = fixed.image[seen], warped[seen]
    # Seen from the moving image the overlap has another size, where the motion scales.
    overlap = float(seen.mean() / max(1.0, abs(np.linalg.det(matrix))))
    if first.size == 0 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0, overlap
    return float(np.corrcoef(first, second)[0, 1]), overlap


def refine(fixed: Level, moving: Level, matrix: np.ndarray, model: str) -> np.ndarray | None:
    """Improve an alignment that is nearly right.

    Args:
        fixed: a level of the fixed image.
        moving: that of the moving image, of the same shape.
        matrix: between the full images, to start from.
        model: one of `MODELS`.

    Returns:
        The better matrix between the full images; None where the images have nothing in common.
    """
    basis = MODELS[model]
    height, width = fixed.image.shape
    # Coordinates of about -1 to 1 keep the equations well conditioned.
    half = max(height, width) / 2
    to_pixels = np.array([[half, 0, (width - 1) / 2], [0, half, (height - 1) / 2], [0, 0, 1]])
    to_unit = np.linalg.inv(to_pixels)
    corners = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1, 1, 1, 1]])
    design = _design(fixed.image, basis, half, to_unit)
    usable = np.isfinite(design).all(axis=0)
    design[:, ~usable] = 0
    matrix = _rescaled(matrix, 1 / fixed.factor)
    gain, offset = 0.0, 0.0
    for _ in range(MOST_STEPS):
        warped = _warp(moving, matrix).ravel()
        seen = usable & np.isfinite(warped)
        if np.count_nonzero(seen) <= len(design):
            return None
        weights = seen.astype(np.float32)
        if gain:
            residuals = np.abs(warped[seen] - gain * design[-2, seen] - offset)
            limit = max(HUBER * MAD_TO_SIGMA * np.median(residuals), 1e-6)  # a perfect fit has no noise
            weights[seen] = limit / np.maximum(residuals, limit)
        weighted = design * weights
        warped[~seen] = 0
        solution = np.linalg.lstsq(weighted @ design.T, weighted @ warped, rcond=1e-6)[0].astype(np.float64)
        gain, offset = solution[-2:]
        # A step that moves by half the image, in the units of the basis, or that inverts the contrast leads nowhere.
        if np.abs(solution[:-2]).max() >= gain:
            return None
        step = to_pixels @ expm(np.tensordot(solution[:-2] / gain, basis, axes=1)) @ to_unit
        matrix = step @ matrix
        matrix[2] = 0, 0, 1  # where rounding has left it
        if np.abs(step @ corners - corners).max() < SMALLEST_STEP:
            break
    return _rescaled(matrix, fixed.factor)


def _factor(image: np.ndarray, sigma: float) -> int:
    """By how much an image may shrink after a blur, a power of 2."""
    factor = 1
    while 2 * factor <= sigma and min(image.shape) >= 2 * factor * LEAST_SIDE:
        factor *= 2
    return factor


def _level(image: np.ndarray, factor: int) -> Level:
    spline = spline_filter(image, SPLINE_ORDER, output=np.float32, mode="mirror")
    return Level(_without_margin(image), _without_margin(spline), factor)


def _rescaled(matrix: np.ndarray, factor: float) -> np.ndarray:
    """The same motion between images that are so many times as large."""
    scale = np.array([factor, factor, 1.0])
    changed: np.ndarray = matrix * scale[:, np.newaxis] / scale
    return changed


def _without_margin(image: np.ndarray) -> np.ndarray:
    """A copy with NaN in the margin."""
    framed = np.full_like(image, np.nan)
    inside = (slice(MARGIN, -MARGIN),) * 2
    framed[inside] = image[inside]
    return framed


def _warp(moving: Level, matrix: np.ndarray) -> np.ndarray:
    """The moving level on the grid of the fixed one, NaN where it does not reach; `matrix` is between levels."""
    inverse = np.linalg.inv(matrix)
    warped: np.ndarray = affine_transform(
        moving.spline,
        inverse[1::-1, 1::-1],  # y before x
        inverse[1::-1, 2],
        order=SPLINE_ORDER,
        prefilter=False,
        mode="constant",
        cval=np.nan,
        output=np.float32,
    )
    return warped


def _design(image: np.ndarray, basis: np.ndarray, half: float, to_unit: np.ndarray) -> np.ndarray:
    """How each pixel of the fixed image changes with each unknown: the motion's, gain and offset; (K+2, Y*X)."""
    down, right = np.gradient(half * image)
    y, x = np.indices(image.shape, np.float32)
    points = np.stack([to_unit[0, 0] * x + to_unit[0, 2], to_unit[1, 1] * y + to_unit[1, 2], np.ones_like(x)])
    design = np.ones((len(basis) + 2, *image.shape), np.float32)
    for row, generator in zip(design[:-2], basis, strict=True):
        flow = np.tensordot(generator[:2].astype(np.float32), points, axes=1)
        row[:] = flow[0] * right + flow[1] * down
    design[-2] = image
    return design.reshape(len(design), -1)
