"""The segmentation finds the objects of real images, and counts them right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skimage import data
from skimage.draw import disk
from skimage.measure import regionprops_table

from t3d_server.errors import AlgorithmError

Run = Callable[..., list[dict[str, Any]]]
COIN_CENTRES = [
    *[(53, 44), (57, 100), (52, 155), (52, 216), (53, 277), (44, 335)],
    *[(124, 45), (126, 102), (127, 154), (124, 205), (119, 271), (124, 336)],
    *[(197, 43), (195, 102), (198, 154), (193, 212), (194, 274), (186, 347)],
    *[(260, 46), (266, 114), (261, 172), (263, 244), (263, 301), (268, 358)],
]
"""(y, x) of each, as one sees them in the image."""


def photograph(name: str) -> np.ndarray:
    """An image that scikit-image carries."""
    image: np.ndarray = getattr(data, name)()
    return image


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    """float32, with Gaussian noise."""
    return (image + np.random.default_rng(0).normal(0, sigma, image.shape)).astype(np.float32)


def shaded_horse() -> tuple[np.ndarray, np.ndarray]:
    """A dark horse on a ground that gets darker to one corner, with noise, float32; and its silhouette, bool."""
    silhouette = ~photograph("horse").astype(bool)
    y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in silhouette.shape), indexing="ij")
    shade = 1 - 0.7 * (x + y) / 2
    return noisy(np.where(silhouette, 0.15, 0.9) * shade, 0.1), silhouette


def discs(*centres: tuple[int, int]) -> np.ndarray:
    """Bright discs of radius 12, uint8 (80, 120)."""
    image = np.full((80, 120), 20, np.uint8)
    for centre in centres:
        image[disk(centre, 12, shape=image.shape)] = 200
    return image


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("sigma", [0, 20])
def test_coins_are_counted(run_algorithm: Run, sigma: float) -> None:
    """24 coins on a shaded ground, with noise too: each has a label of its own and nearly the form of a coin."""
    image = noisy(photograph("coins"), sigma)

    mask = run_algorithm("segment", [{"image": image}], {"background": 50})[0]["mask"]

    assert mask.max() == len(COIN_CENTRES)
    assert {mask[centre] for centre in COIN_CENTRES} == set(range(1, 25))
    assert regionprops_table(mask, properties=["solidity"])["solidity"].min() > 0.85


def test_shaded_horse_is_found(run_algorithm: Run) -> None:
    """The silhouette comes back; without a look at the background, shade counts as horse."""
    image, silhouette = shaded_horse()
    even, plain = (
        run_algorithm("segment", [{"image": image}], {"objects": "dark", "background": background})[0]["mask"] > 0
        for background in (80, 0)
    )
    assert overlap(even, silhouette) >= 0.97
    assert overlap(plain, silhouette) < 0.9


def test_text_in_a_shadow_is_read(run_algorithm: Run) -> None:
    """`sauvola` finds letters on a page with a dark edge, which one threshold for all takes for ink."""
    page = photograph("page")
    letters = {"objects": "dark", "smoothing": 0.5, "cleanup": [], "min_size": 5, "output": "binary"}
    local, otsu = (
        run_algorithm("segment", [{"image": page}], {**letters, "method": method})[0]["mask"].mean()
        for method in ("sauvola", "otsu")
    )
    assert local == pytest.approx(0.14, abs=0.04)
    assert otsu > 0.35


@pytest.mark.parametrize("objects", ["bright", "dark"])
def test_every_method_finds_clear_objects(run_algorithm: Run, objects: str) -> None:
    """Discs on an even ground, whatever the method is."""
    image = discs((20, 20), (55, 60), (25, 100))
    truth = image > 100
    image = noisy(255 - image if objects == "dark" else image, 10)
    for method in ("otsu", "li", "triangle", "yen", "isodata", "manual"):
        args = {"method": method, "objects": objects, "level": 120.0}
        mask = run_algorithm("segment", [{"image": image}], args)[0]["mask"]
        assert mask.max() == 3, method
        assert overlap(mask > 0, truth) > 0.7, method


def test_dtype_does_not_matter(run_algorithm: Run) -> None:
    """The same values give the same labels."""
    image = photograph("coins")[:160, :192]
    masks = [
        run_algorithm("segment", [{"image": image.astype(dtype)}], {"background": 40})[0]["mask"]
        for dtype in ("uint8", "uint16", "int16", "int32", "float16", "float32", "float64")
    ]
    assert masks[0].max() > 0
    for mask in masks:
        assert mask.dtype == np.int32
        np.testing.assert_array_equal(mask, masks[0])


def test_colour_counts_by_its_luminance(run_algorithm: Run) -> None:
    """Green is bright and blue is dark, as eyes see them."""
    image = np.zeros((40, 40, 3), np.uint16)
    image[5:15, 5:15] = (0, 3000, 0)
    image[25:35, 25:35] = (0, 0, 3000)
    mask = run_algorithm("segment", [{"image": image}], {"method": "manual", "level": 1000.0})[0]["mask"]
    assert mask[10, 10] == 1
    assert mask[30, 30] == 0


def test_stack_is_segmented_slice_by_slice(run_algorithm: Run, journal: Any) -> None:
    """Each slice is numbered from 1, with progress after each, and the stack's spacing kept."""
    stack = np.stack([discs((20, 20)), discs((20, 20), (50, 60)), discs()])
    result = run_algorithm("segment", [{"image": stack, "axes": "ZYX", "spacing": (2.0, 0.5, 0.5)}])[0]
    assert [labels.max() for labels in result["mask"]] == [1, 2, 0]
    assert tuple(result["spacing"]) == (2.0, 0.5, 0.5)
    assert journal.fractions[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert journal.lines[-1].message == "Objects: 0 to 2 in a slice, 3 in all."


def test_cancelled_run_stops_after_a_slice(run_algorithm: Run, journal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slices that are left are not worked on."""
    monkeypatch.setattr(journal, "cancelled", lambda: len(journal.fractions) >= 2)
    with pytest.raises(AlgorithmError):
        run_algorithm("segment", [{"image": np.stack([discs((20, 20))] * 9), "axes": "ZYX"}])
    assert max(fraction for fraction in journal.fractions if fraction < 1) < 0.5


def test_touching_objects_are_split(run_algorithm: Run) -> None:
    """`split` cuts at necks; a thin object without a neck stays whole."""
    image = discs((20, 20), (24, 41), (30, 62), (60, 30), (60, 53))
    image[70:72, 80:115] = 200
    whole, split = (
        run_algorithm("segment", [{"image": image}], {"split": value, "smoothing": 0.5})[0]["mask"] for value in (0, 2)
    )
    assert whole.max() == 3
    assert split.max() == 6
    np.testing.assert_array_equal(split > 0, whole > 0)


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({}, 4),
        ({"min_size": 0}, 5),
        ({"min_size": 300}, 2),
        ({"clear_borders": [True, False, False, False]}, 3),
        ({"clear_borders": [False, True, False, False]}, 3),
        ({"clear_borders": [False, False, True, True]}, 4),
        ({"clear_borders": [True, True, True, True]}, 2),
        ({"keep": "area < 300"}, 2),
        ({"keep": "area>=300, intensity_mean <= 150"}, 1),
        ({"keep": "eccentricity < 0.5"}, 3),
    ],
)
def test_objects_are_selected(run_algorithm: Run, args: dict[str, Any], count: int) -> None:
    """By size, border and properties; those that stay are numbered without gaps."""
    image = discs((40, 60), (60, 20), (0, 20))  # the third reaches over the top border
    image[40:50, 110:120] = 200  # 100 pixels at the right border
    image[2, 2] = 200
    image[disk((60, 20), 12)] = 120
    mask = run_algorithm("segment", [{"image": image}], {"smoothing": 0.0, **args})[0]["mask"]
    assert np.unique(mask).tolist() == list(range(count + 1))


def test_cleanup_steps_run_in_their_order(run_algorithm: Run) -> None:
    """A ring with a gap has a hole to fill only after the gap is closed."""
    image = discs((40, 60))
    image[disk((40, 60), 8)] = 20
    image[39:41, 60:] = 20
    filled, open_ring = (
        run_algorithm("segment", [{"image": image}], {"smoothing": 0.0, "cleanup": steps})[0]["mask"]
        for steps in (["close", "fill_holes"], ["fill_holes", "close"])
    )
    assert filled[40, 60] == 1
    assert open_ring[40, 60] == 0


@pytest.mark.parametrize("args", [{}, {"background": 50, "split": 2.0, "objects": "dark"}])
def test_even_and_tiny_images_have_no_objects(run_algorithm: Run, args: dict[str, Any]) -> None:
    """Nothing stands out, whatever rounding does; an image of few pixels is no error."""
    even = np.full((30, 40), 0.1, np.float32)
    tiny = np.arange(10, dtype=np.uint8).reshape(2, 5)
    for method in ("otsu", "li", "triangle", "yen", "isodata", "sauvola"):
        for image in (even, tiny, tiny[:1, :1]):
            mask = run_algorithm("segment", [{"image": image}], {"method": method, **args})[0]["mask"]
            assert mask.shape == image.shape
            assert mask.max() == 0, method


def test_binary_output_is_one(run_algorithm: Run) -> None:
    """All objects are 1, as uint8."""
    args = {"output": "binary", "method": "otsu", "smoothing": 0.0}
    image = discs((20, 20), (55, 60))
    mask = run_algorithm("segment", [{"image": image}], args)[0]["mask"]
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, image > 100)


def test_wrong_args_are_refused_together(run_algorithm: Run) -> None:
    """One error names every arg that does not fit."""
    args = {"keep": "size > 3, area = 7, area < x", "cleanup": ["erode"], "clear_borders": [True], "min_size": -1}
    with pytest.raises(AlgorithmError) as caught:
        run_algorithm("segment", [{"image": discs()}], args)
    for part in ("`size` is no property", "`area = 7` is no condition", "`x` is no number", "'erode' unknown"):
        assert part in caught.value.message
    for part in ("clear_borders: [True]", "min_size: -1"):
        assert part in caught.value.message


def test_nan_is_refused(run_algorithm: Run) -> None:
    """NaN is an error that says so."""
    image = np.ones((2, 8, 8), np.float32)
    image[1, 2, 3] = np.nan
    with pytest.raises(AlgorithmError, match="slice 1 holds NaN"):
        run_algorithm("segment", [{"image": image, "axes": "ZYX"}])
