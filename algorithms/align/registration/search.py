"""Finds alignments to start from: by features that both images show, and by correlation."""

from dataclasses import dataclass

import numpy as np
from registration.intensity import shrink
from skimage.feature import SIFT, match_descriptors
from skimage.measure import ransac
from skimage.registration import phase_cross_correlation
from skimage.transform import AffineTransform, EuclideanTransform, SimilarityTransform

FAINTEST = 0.005  # contrast of a feature over the image's range; SIFT's own 0.0133 finds too few in smooth images
DISTINCT = 0.9  # distance of the best match over that of the second best, at most
TOLERANCE = 2.0  # of matches, in pixels of the searched image
MOST_TRIALS = 1000
CORRELATED_SIDE = 128  # pixels

TRANSFORMS = {
    "translation": (EuclideanTransform, 2),
    "rigid": (EuclideanTransform, 2),
    "similarity": (SimilarityTransform, 2),
    "affine": (AffineTransform, 3),
}
"""What is fitted to matches, and how many of them determine it."""


@dataclass(frozen=True)
class Features:
    """What is distinct in an image.

    Attributes:
        points: float64 (N, 2), (x, y) in pixels of the image.
        descriptors: uint8 (N, 128).
        tolerance: how exact the points are, in pixels of the image.
    """

    points: np.ndarray
    descriptors: np.ndarray
    tolerance: float


def find_features(image: np.ndarray, side: int) -> Features:
    """Find features that can be told again under rotation, scale, and other brightness and contrast.

    D. G. Lowe, *Distinctive image features from scale-invariant keypoints*, Int. J. Comput. Vis. 60, 2004.

    Args:
        image: float (Y, X).
        side: the image is shrunk until no side is longer, in pixels.
    """
    small, factor = _fitted(image, side)
    detector = SIFT(c_dog=FAINTEST)
    try:
        detector.detect_and_extract((small - small.min()) / np.ptp(small))
    except RuntimeError:  # its way to say that there are none
        return Features(np.empty((0, 2)), np.empty((0, 128), np.uint8), TOLERANCE * factor)
    points = np.asarray(detector.positions, np.float64)[:, ::-1] * factor
    return Features(points, np.asarray(detector.descriptors), TOLERANCE * factor)


def match(fixed: Features, moving: Features) -> tuple[np.ndarray, np.ndarray]:
    """Pair features that look alike: their points in the fixed and in the moving image, float64 (N, 2) each."""
    if min(len(fixed.points), len(moving.points)) < 2:
        return np.empty((0, 2)), np.empty((0, 2))
    pairs = match_descriptors(fixed.descriptors, moving.descriptors, cross_check=True, max_ratio=DISTINCT)
    return fixed.points[pairs[:, 0]], moving.points[pairs[:, 1]]


def by_features(points1: np.ndarray, points2: np.ndarray, model: str, tolerance: float) -> np.ndarray | None:
    """The motion that most matches agree on.

    M. A. Fischler, R. C. Bolles, *Random sample consensus*, Commun. ACM 24, 1981.

    Args:
        points1: float64 (N, 2), (x, y) in the fixed image.
        points2: the same points in the moving image.
        model: one of `TRANSFORMS`.
        tolerance: pixels by which a match may miss.

    Returns:
        The matrix; None where no motion explains more matches than those that determine it.
    """
    transform, needed = TRANSFORMS[model]
    if len(points1) <= needed:
        return None
    found, inliers = ransac(
        (points2, points1),
        transform,
        min_samples=needed,
        residual_threshold=tolerance,
        max_trials=MOST_TRIALS,
        stop_probability=0.999,
        rng=0,
    )
    if not found or np.count_nonzero(inliers) <= needed:
        return None
    matrix: np.ndarray = found.params
    if model == "translation":
        matrix = np.eye(3)
        matrix[:2, 2] = np.median((points1 - points2)[inliers], axis=0)
    return matrix


def by_correlation(fixed: np.ndarray, moving: np.ndarray, min_overlap: float) -> np.ndarray:
    """The translation of highest correlation over what both images show, to some pixels.

    D. Padfield, *Masked object registration in the Fourier domain*, IEEE Trans. Image Process. 21, 2012.

    Args:
        fixed: float (Y, X).
        moving: the same shape.
        min_overlap: least part of the images that both are to show, 0 to 1.

    Returns:
        The matrix.
    """
    small_fixed, factor = _fitted(fixed, CORRELATED_SIDE)
    small_moving, _ = _fitted(moving, CORRELATED_SIDE)
    everything = np.ones(small_fixed.shape, bool)
    down, right = phase_cross_correlation(
        small_fixed, small_moving, reference_mask=everything, moving_mask=everything, overlap_ratio=min_overlap
    )[0]
    matrix = np.eye(3)
    matrix[:2, 2] = right * factor, down * factor
    return matrix


def _fitted(image: np.ndarray, side: int) -> tuple[np.ndarray, int]:
    """The image shrunk until no side is longer than `side` pixels, and by what factor."""
    factor = -(-max(image.shape) // side)
    return shrink(image, max(1.0, factor / 2), factor), factor
