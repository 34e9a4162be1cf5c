"""Aligns one image with another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from registration.intensity import Level, correlate, pyramid, refine, structures
from registration.search import Features, by_correlation, by_features, find_features, match

STRUCTURES = (3.0, 12.0)  # blurs in pixels, between which unrelated images hardly correlate


@dataclass(frozen=True)
class Prepared:
    """An image with all that its alignments need.

    Attributes:
        image: float32 (Y, X), mean 0 and standard deviation 1.
        levels: the image for each blur of the refinement.
        judged: its structures, by which alignments are compared.
        features: what is distinct in it.
    """

    image: np.ndarray
    levels: list[Level]
    judged: Level
    features: Features


@dataclass(frozen=True)
class Alignment:
    """How the moving image lies on the fixed one.

    Attributes:
        matrix: float64 (3, 3), homogeneous, acts on (x, y) pixel-centre coordinates, maps the moving image onto the
            fixed one.
        confidence: correlation of their structures where both show something, 0 to 1.
        points1: float64 (N, 2), (x, y) of features in the fixed image.
        points2: the same features in the moving image, which `matrix` brings there.
    """

    matrix: np.ndarray
    confidence: float
    points1: np.ndarray
    points2: np.ndarray


class Fit(NamedTuple):
    """A matrix, the correlation of structures under it, and the part of the images that both show."""

    matrix: np.ndarray
    correlation: float
    overlap: float


def prepare(image: np.ndarray, sigmas: Sequence[float], search_size: int) -> Prepared | None:
    """Make an image ready.

    Args:
        image: float64 (Y, X), finite.
        sigmas: blurs of the refinement, in pixels.
        search_size: longest side of the image in which features are searched, in pixels.

    Returns:
        None where the image is flat.
    """
    deviation = image.std()
    if deviation == 0:
        return None
    image = ((image - image.mean()) / deviation).astype(np.float32)
    return Prepared(image, pyramid(image, sigmas), structures(image, *STRUCTURES), find_features(image, search_size))


def align(fixed: Prepared, moving: Prepared, guess: np.ndarray, *, model: str, min_overlap: float) -> Alignment | None:
    """Align an image with another.

    Args:
        fixed: the image that stays.
        moving: the image that is to lie on it, of the same shape.
        guess: a matrix that may be near.
        model: "translation", "rigid", "similarity" or "affine".
        min_overlap: least part of the images that both show, 0 to 1.

    Returns:
        The best there is; None where nothing fits at all.
    """

    def climb(matrix: np.ndarray | None, levels: slice) -> Fit | None:
        """Refine a matrix on some levels; None where it leads nowhere."""
        for level, other in zip(fixed.levels[levels], moving.levels[levels], strict=True):
            matrix = matrix if matrix is None else refine(level, other, matrix, model)
        if matrix is None:
            return None
        correlation, overlap = correlate(fixed.judged, moving.judged, matrix)
        return Fit(matrix, correlation, overlap) if overlap >= min_overlap else None

    points1, points2 = match(fixed.features, moving.features)
    tolerance = fixed.features.tolerance
    starts = [
        guess,
        by_correlation(fixed.image, moving.image, min_overlap),
        by_features(points1, points2, model, tolerance),
    ]
    # The last level takes as long as all others together, so the best start alone gets there.
    coarse = [fit for start in starts if (fit := climb(start, slice(-1))) is not None]
    if not coarse:
        return None
    # As statistics weigh a correlation: by the root of what it is made of.
    best = max(coarse, key=lambda fit: fit.correlation * np.sqrt(fit.overlap))
    best = climb(best.matrix, slice(-1, None)) or best
    mapped = points2 @ best.matrix[:2, :2].T + best.matrix[:2, 2]
    agree = np.linalg.norm(mapped - points1, axis=1) < tolerance
    return Alignment(best.matrix, min(1.0, max(0.0, best.correlation)), points1[agree], points2[agree])
