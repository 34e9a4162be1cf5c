"""The embedding tells real textures apart, for every kind of image."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from t3d_server.errors import AlgorithmError

Run = Callable[..., list[dict[str, Any]]]
SCRIPT = Path(__file__).parents[2] / "algorithms" / "fetch_weights.py"
TEXTURES = ("brick", "grass", "gravel")
CROP = 128


@pytest.fixture(autouse=True, scope="module")
def _weights() -> None:
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Threads that share a core with other tests wait for each other most of the time.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(name: str) -> np.ndarray:
    """A photograph that scikit-image carries, uint8 (Y, X) or (Y, X, 3)."""
    image: np.ndarray = getattr(data, name)()
    return image


def texture_crops() -> tuple[np.ndarray, np.ndarray]:
    """8 crops of each texture, uint8 (24, 128, 128), and their classes."""
    corners = [(y, x) for y in range(0, 512, CROP) for x in range(0, 512, 2 * CROP)]
    crops = [picture(name)[y : y + CROP, x : x + CROP] for name in TEXTURES for y, x in corners]
    return np.stack(crops), np.repeat(np.arange(len(TEXTURES)), len(corners))


def neighbour_accuracy(features: np.ndarray, classes: np.ndarray) -> float:
    """How often the nearest other sample is of the same class."""
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float((classes[distances.argmin(axis=1)] == classes).mean())


def at_other_contrasts(crops: np.ndarray) -> np.ndarray:
    """The crops as 16-bit images, each at a brightness and contrast of its own."""
    rng = np.random.default_rng(0)
    contrast = rng.uniform(0.3, 1, (len(crops), 1, 1))
    changed = crops * contrast + rng.uniform(0, 1, contrast.shape) * 255 * (1 - contrast)
    images: np.ndarray = np.rint(200 * changed).astype(np.uint16)
    return images


def test_textures_are_told_apart(run_algorithm: Run, journal: Any) -> None:
    """The nearest neighbour is of the same texture, at any contrast; raw pixels, even of one contrast, do not do."""
    crops, classes = texture_crops()

    result = run_algorithm("embed", [{"image": at_other_contrasts(crops), "axes": "ZYX"}])[0]

    accuracy = neighbour_accuracy(result["features"], classes)
    assert accuracy >= 0.95
    pixels = crops.reshape(len(crops), -1).astype(np.float64)
    standardised = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    for raw in (pixels, standardised):
        assert accuracy > neighbour_accuracy(raw, classes) + 0.3
    assert journal.fractions == pytest.approx([2 / 3, 1])


def test_cancelled_run_stops_at_the_next_batch(
    run_algorithm: Run, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "cancelled", lambda: bool(journal.fractions))
    with pytest.raises(AlgorithmError, match="cancelled"):
        run_algorithm("embed", [{"image": texture_crops()[0][:6], "axes": "ZYX"}], {"batch_size": 2})
    assert journal.fractions == pytest.approx([1 / 3])


def test_single_images_give_one_vector_each(run_algorithm: Run) -> None:
    """Datasets come back one for one, with the sizes that a client needs."""
    images = [{"image": picture("coffee")}, {"image": picture("coffee")[:, ::-1]}]
    results = run_algorithm("embed", images)
    assert len(results) == 2
    for result in results:
        assert result["features"].shape == (1280,)
        assert result["features"].dtype == np.float32
        assert tuple(result["input_size"]) == (224, 224)
        assert tuple(result["original_size"]) == (400, 600)
        assert np.linalg.norm(result["features"]) == pytest.approx(1, abs=1e-4)
    assert results[0]["features"] @ results[1]["features"] > 0.9  # a mirrored cup of coffee is one, too


def test_map_keeps_the_layout(run_algorithm: Run) -> None:
    """`map` gives features at 7 x 7 places, whose mean is the vector."""
    image = [{"image": picture("coins")}]
    vector = run_algorithm("embed", image, {"normalize": False})[0]["features"]
    features = run_algorithm("embed", image, {"normalize": False, "output": "map"})[0]["features"]
    assert features.shape == (1280, 7, 7)
    np.testing.assert_allclose(features.mean(axis=(1, 2)), vector, rtol=1e-4, atol=1e-5)


def test_batches_do_not_matter(run_algorithm: Run) -> None:
    """Any batch size gives the same features."""
    stack = {"image": texture_crops()[0][::5], "axes": "ZYX"}
    whole = run_algorithm("embed", [stack])[0]["features"]
    single = run_algorithm("embed", [stack], {"batch_size": 1})[0]["features"]
    np.testing.assert_allclose(whole, single, atol=1e-5)


def test_grey_equals_colour_of_equal_channels(run_algorithm: Run) -> None:
    """A grey image is seen as a colour image without colour."""
    grey = picture("camera")
    colour = np.stack([grey] * 3, axis=-1)
    [first, second] = (run_algorithm("embed", [{"image": image}])[0]["features"] for image in (grey, colour))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_flat_image_has_finite_features(run_algorithm: Run) -> None:
    """No contrast is no division by zero."""
    result = run_algorithm("embed", [{"image": np.full((9, 9), 5, np.uint16)}])[0]
    assert np.isfinite(result["features"]).all()


def test_nan_is_refused(run_algorithm: Run) -> None:
    """NaN is an error that says so."""
    with pytest.raises(AlgorithmError, match="NaN"):
        run_algorithm("embed", [{"image": np.full((9, 9), np.nan, np.float32)}])
