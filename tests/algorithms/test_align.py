"""The alignment finds motions that real images have made, to a part of a pixel, and says where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage import data
from skimage.color import rgb2gray
from skimage.registration import phase_cross_correlation
from skimage.transform import warp

from t3d_server.errors import AlgorithmError

Run = Callable[..., list[dict[str, Any]]]


def picture(name: str) -> np.ndarray:
    """A photograph that scikit-image carries, grey, float64 (Y, X) in [0, 1]."""
    image: np.ndarray = getattr(data, name)()
    grey: np.ndarray = rgb2gray(image) if image.ndim == 3 else image / 255.0
    return grey


def motion(
    shape: tuple[int, ...],
    degrees: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: float = 0.0,
) -> np.ndarray:
    """A matrix that turns about the centre of an image, and shifts by (x, y) pixels."""
    to_centre = np.array([[1, 0, (shape[1] - 1) / 2], [0, 1, (shape[0] - 1) / 2], [0, 0, 1]])
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, :2] @= np.array([[1, shear], [0, 1]])
    matrix[:2, 2] = shift
    moved: np.ndarray = to_centre @ matrix @ np.linalg.inv(to_centre)
    return moved


def seen(scene: np.ndarray, matrix: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """What a window of a scene shows after a motion; `matrix` maps it onto what the window shows at rest.

    Splines of another order than the algorithm's own, so that it does not merely undo what was done.
    """
    top, left = window[0].start, window[1].start
    y, x = np.indices((window[0].stop - top, window[1].stop - left))
    sources = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), axes=1)
    image = map_coordinates(scene, [sources[1] + top, sources[0] + left], order=5)
    clipped: np.ndarray = np.clip(image, 0, 1)
    return clipped


def noisy(image: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return (image + np.random.default_rng(seed).normal(0, noise, image.shape)).astype(np.float32)


def corner_error(found: np.ndarray, true: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far the worst corner of an image is from where it belongs, in pixels."""
    height, width = shape[:2]
    corners = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1, 1, 1, 1]])
    return float(np.linalg.norm(((found - true) @ corners)[:2], axis=0).max())


def as_8_bit(image: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint(image * 255).astype(np.uint8)
    return rounded


@pytest.mark.parametrize(("name", "seed", "degrees"), [("camera", 0, 3.0), ("retina", 1, -3.0)])
def test_worst_corner_is_within_a_tenth_of_a_pixel(run_algorithm: Run, name: str, seed: int, degrees: float) -> None:
    """3 degrees and a part of a pixel, 3 % noise on both images; phase correlation alone is far off."""
    scene, window = picture(name), np.s_[0:512, 0:512]
    if name == "retina":  # a crop of it, so that other parts come into view, where those of the other one are black
        scene, window = scene[200:812, 50:662], np.s_[50:562, 50:562]
    true = motion((512, 512), degrees, (4.3, -2.7))
    pair = [noisy(scene[window], 0.03, 2 * seed), noisy(seen(scene, true, window), 0.03, 2 * seed + 1)]

    [result] = run_algorithm("align", [{"image": image} for image in pair])
    (down, right), _, _ = phase_cross_correlation(*pair, upsample_factor=100)

    assert corner_error(result["transform_matrix"], true, (512, 512)) <= 0.1
    assert result["confidence"] > 0.7
    assert corner_error(motion((512, 512), 0, (right, down)), true, (512, 512)) > 10


WINDOW = np.s_[106:406, 96:416]
STILL = picture("camera")[WINDOW]


def camera_moved(**how: Any) -> tuple[np.ndarray, np.ndarray]:
    """What `WINDOW` of the camera man shows after a motion, and its matrix."""
    true = motion(STILL.shape, **how)
    return seen(picture("camera"), true, WINDOW), true


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("translation", {"shift": (-7.25, 11.6)}),
        ("rigid", {"degrees": 20, "shift": (12.2, 5.5)}),
        ("rigid", {"degrees": 170, "shift": (-3.5, 8.1)}),
        ("rigid", {"shift": (120.4, -80.3)}),
        ("similarity", {"degrees": -10, "shift": (6.5, 0.5), "scale": 1.15}),
        ("affine", {"degrees": 8, "shift": (-9.5, 4.5), "scale": 0.92, "shear": 0.08}),
    ],
)
def test_each_model_finds_its_motion(run_algorithm: Run, model: str, how: dict[str, Any]) -> None:
    """Large ones too, with other contrast and brightness, and with shading."""
    moved, true = camera_moved(**how)
    shaded = 40 + 90 * moved**1.2 * np.linspace(1, 0.7, moved.shape[1])
    pair = [noisy(STILL, 0.02, 0), noisy(shaded, 2, 1)]

    [result] = run_algorithm("align", [{"image": image} for image in pair], {"model": model})

    matrix = result["transform_matrix"]
    assert (matrix.shape, matrix.dtype) == ((3, 3), np.float64)
    assert corner_error(matrix, true, STILL.shape) < 0.25
    np.testing.assert_array_equal(matrix[2], [0, 0, 1])
    np.testing.assert_array_equal(result["translation_matrix"][:2, 2], matrix[:2, 2])
    linear = matrix[:2, :2]
    if model == "translation":
        np.testing.assert_array_equal(linear, np.eye(2))
    elif model in ("rigid", "similarity"):
        scale = 1 if model == "rigid" else np.linalg.det(linear)
        np.testing.assert_allclose(linear @ linear.T, scale * np.eye(2), atol=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_dtypes_of_every_kind_are_taken(run_algorithm: Run, dtype: str) -> None:
    moved, true = camera_moved(shift=(3.3, 1.7))
    stack = (np.stack([STILL, moved])[:, :160, :160] * 250).astype(dtype)
    [result] = run_algorithm("align", [{"image": stack, "axes": "ZYX"}])
    assert corner_error(result["transform_matrix"], true, (160, 160)) < 0.05


def test_warped_colour_image_lies_on_the_first(run_algorithm: Run) -> None:
    """As the convention of alignments says it: `warp(next, inverse_map=inv(matrix))`."""
    colour = data.astronaut() / 255.0
    window = np.s_[0:300, 100:400]
    true = motion((300, 300), 5, (8.4, -6.3))
    moved = np.stack([seen(channel, true, window) for channel in np.moveaxis(colour, -1, 0)], axis=-1)
    still = colour[window]

    [result] = run_algorithm("align", [{"image": as_8_bit(still)}, {"image": as_8_bit(moved)}])

    warped = warp(moved, inverse_map=np.linalg.inv(result["transform_matrix"]), order=3)
    inside = np.s_[40:-40, 40:-40]
    assert np.abs(warped - still)[inside].mean() < 0.01 < np.abs(moved - still)[inside].mean()


def test_matched_points_are_the_same_in_both_images(run_algorithm: Run) -> None:
    """`points1` lie in the first image, `points2` in the second, both as (x, y)."""
    moved, true = camera_moved(degrees=15, shift=(10.5, 20.5))
    [result] = run_algorithm("align", [{"image": as_8_bit(image)} for image in (STILL, moved)])
    points1, points2 = result["points1"], result["points2"]
    assert len(points1) == len(points2) > 50
    mapped = points2 @ true[:2, :2].T + true[:2, 2]
    assert np.median(np.linalg.norm(mapped - points1, axis=1)) < 1


@pytest.mark.parametrize("reference", ["previous", "first"])
def test_stack_is_aligned_slice_by_slice(run_algorithm: Run, journal: Any, reference: str) -> None:
    """Whatever the reference, matrices map onto the slice before: multiplied, they map onto the first."""
    motions = [motion(STILL.shape, 2.0 * index, (3.3 * index, -1.7 * index)) for index in range(3)]
    scene = picture("camera")
    stack = np.stack([noisy(seen(scene, each, WINDOW), 0.03, index) for index, each in enumerate(motions)])

    results = run_algorithm("align", [{"image": stack, "axes": "ZYX"}], {"reference": reference})

    assert len(results) == 2
    onto_first = np.eye(3)
    for result, true in zip(results, motions[1:], strict=True):
        onto_first = onto_first @ result["transform_matrix"]
        assert corner_error(onto_first, true, STILL.shape) < 0.15
        before = result["points2"] @ result["transform_matrix"][:2, :2].T + result["transform_matrix"][:2, 2]
        assert np.linalg.norm(before - result["points1"], axis=1).max() < 4
    assert journal.fractions == pytest.approx([1 / 3, 2 / 3, 1])
    assert journal.lines[-1].message == "Aligned 3 images: confidence 1.00 to 1.00."


def test_cancelled_run_stops_at_the_next_slice(
    run_algorithm: Run, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "cancelled", lambda: len(journal.fractions) == 2)
    with pytest.raises(AlgorithmError, match="cancelled"):
        run_algorithm("align", [{"image": np.stack([as_8_bit(STILL)] * 6), "axes": "ZYX"}])
    assert journal.fractions == pytest.approx([1 / 6, 2 / 6])


def test_slice_that_fits_nothing_is_told(run_algorithm: Run, journal: Any) -> None:
    """A blank slice, and one of something else, have a low confidence, and a warning each; the others stay exact."""
    moved, true = camera_moved(degrees=3, shift=(5.4, 2.2))
    other = picture("moon")[WINDOW]
    stack = np.stack([as_8_bit(image) for image in (STILL, np.zeros_like(STILL), other, moved)])

    blank, unlike, back = run_algorithm("align", [{"image": stack, "axes": "ZYX"}], {"reference": "first"})

    assert blank["confidence"] == 0
    np.testing.assert_array_equal(blank["transform_matrix"], np.eye(3))
    assert unlike["confidence"] < 0.5
    assert back["confidence"] > 0.7
    onto_first = blank["transform_matrix"] @ unlike["transform_matrix"] @ back["transform_matrix"]
    assert corner_error(onto_first, true, STILL.shape) < 0.05
    warnings = [line.message for line in journal.lines if line.level == "WARNING"]
    assert [text[:7] for text in warnings] == ["Image 1", "Image 2"]


@pytest.mark.parametrize("shape", [(16, 16), (20, 300)])
def test_noise_alone_has_no_confidence(run_algorithm: Run, shape: tuple[int, int]) -> None:
    """Images of any size in which nothing is to be seen."""
    [result] = run_algorithm("align", [{"image": noisy(np.zeros(shape), 1, seed)} for seed in (0, 1)])
    assert result["confidence"] < 0.5


def test_little_overlap_has_to_be_allowed(run_algorithm: Run) -> None:
    """Of images that have 3 tenths in common, `min_overlap` decides."""
    scene = picture("brick")
    images = [{"image": as_8_bit(scene[100:356, left : left + 256])} for left in (20, 200)]
    for least, confident in ((0.1, True), (0.5, False)):
        [result] = run_algorithm("align", images, {"model": "translation", "min_overlap": least})
        error = corner_error(result["transform_matrix"], motion((256, 256), 0, (180, 0)), (256, 256))
        assert (error < 0.1) == confident == (result["confidence"] > 0.9)


def test_region_alone_counts(run_algorithm: Run) -> None:
    """Two parts of a scene that moved differently: `region` says which one is meant."""
    left, true_left = camera_moved(shift=(4.5, 3.5))
    right, true_right = camera_moved(degrees=4, shift=(-5.5, 2.5))
    moved = np.hstack([left[:, :160], right[:, 160:]])
    images = [{"image": as_8_bit(image)} for image in (STILL, moved)]
    for region, true in (([20, 0, 280, 150], true_left), ([20, 170, 280, 320], true_right)):
        [result] = run_algorithm("align", images, {"region": region})
        assert corner_error(result["transform_matrix"], true, STILL.shape) < 0.1
        x, y = result["points1"].T
        assert region[1] <= x.min() <= x.max() < region[3]
        assert region[0] <= y.min() <= y.max() < region[2]


def test_larger_search_finds_more_and_weaker_blur_is_more_exact(run_algorithm: Run) -> None:
    moved, true = camera_moved(degrees=5, shift=(4.5, 3.5))
    images = [{"image": noisy(image, 0.05, seed)} for seed, image in enumerate((STILL, moved), 20)]
    [small, large] = (run_algorithm("align", images, {"search_size": size})[0] for size in (128, 512))
    [blurred] = run_algorithm("align", images, {"sigmas": [8.0]})
    assert len(large["points1"]) > 2 * len(small["points1"]) > 0
    exact = corner_error(small["transform_matrix"], true, STILL.shape)
    assert exact < 0.05 < corner_error(blurred["transform_matrix"], true, STILL.shape) < 0.5


def test_wrong_values_are_refused(run_algorithm: Run) -> None:
    """NaN, images that are too small, and lists that do not fit are errors that say so."""
    images = np.ones((2, 20, 30), np.float32)
    for args, fault in (
        ({"region": [0, 0, 30, 20]}, r"region is \[0, 0, 30, 20\].*images of 20 x 30"),
        ({"region": [5]}, "must be empty or"),
        ({"region": [0, 0, 20, 8]}, "20 x 8 pixels .* are too few"),
        ({"sigmas": []}, r"sigmas is \[\]"),
        ({"sigmas": [2.0, -1.0]}, "none negative"),
    ):
        with pytest.raises(AlgorithmError, match=fault):
            run_algorithm("align", [{"image": images, "axes": "ZYX"}], args)
    images[1, 2, 3] = np.nan
    with pytest.raises(AlgorithmError, match="image 1 holds NaN"):
        run_algorithm("align", [{"image": images, "axes": "ZYX"}])
