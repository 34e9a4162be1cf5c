"""The denoiser removes noise from real images, and changes nothing else of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skimage import data
from skimage.filters import gaussian

from t3d_server.errors import AlgorithmError

Run = Callable[..., list[dict[str, Any]]]
SIGMA = 0.1


def picture(name: str) -> np.ndarray:
    """A photograph that scikit-image carries, uint8 (Y, X) or (Y, X, 3)."""
    image: np.ndarray = getattr(data, name)()
    return image


def noisy(clean: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """`clean`, float32 in [0, 1], with Gaussian noise."""
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return (clean + noise).astype(np.float32)


def psnr(clean: np.ndarray, image: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((image - clean) ** 2)))


@pytest.mark.parametrize(("name", "gain_db"), [("camera", 7.5), ("brick", 10.0)])
def test_gain_on_real_images(run_algorithm: Run, name: str, gain_db: float) -> None:
    """The default gains so many decibels, and 1 dB more than the best of all Gaussians."""
    clean = picture(name).astype(np.float32) / 255
    image = noisy(clean)
    blurs = [gaussian(image, sigma) for sigma in np.arange(0.5, 2.5, 0.1)]
    best_gaussian = max(psnr(clean, blur) for blur in blurs)

    denoised = psnr(clean, run_algorithm("denoise", [{"image": image}])[0]["image"])

    assert denoised >= psnr(clean, image) + gain_db
    assert denoised >= best_gaussian + 1


@pytest.mark.parametrize("method", ["nl_means", "tv_chambolle", "gaussian"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64"])
def test_dtype_and_range_stay(run_algorithm: Run, method: str, dtype: str) -> None:
    """Every method keeps dtype and intensities of every image dtype, and brings the image nearer to the clean one."""
    clean = picture("camera")[100:164, 200:264].astype(np.float64)
    image = np.clip(clean + np.random.default_rng(0).normal(0, 25, clean.shape), 0, 255).astype(dtype)

    result = run_algorithm("denoise", [{"image": image}], {"method": method})[0]["image"]

    assert result.dtype == image.dtype
    assert np.abs(result - clean).mean() < 0.7 * np.abs(image - clean).mean()


@pytest.mark.parametrize("method", ["nl_means", "tv_chambolle", "gaussian"])
def test_colour_is_denoised(run_algorithm: Run, method: str) -> None:
    """A colour image stays one, with less noise and its own hues."""
    clean = picture("astronaut")[:128, 150:278].astype(np.float32) / 255
    image = noisy(clean)
    result = run_algorithm("denoise", [{"image": image}], {"method": method})[0]["image"]
    assert result.shape == image.shape
    assert psnr(clean, result) > psnr(clean, image) + 5


def test_stack_is_denoised_slice_by_slice(run_algorithm: Run, journal: Any) -> None:
    """Each slice by its own noise, with progress after each, and the stack's spacing kept."""
    clean = picture("camera")[:64, :64].astype(np.float32) / 255
    stack = np.stack([noisy(clean, sigma) for sigma in (0.05, 0.1, 0.2)])

    result = run_algorithm("denoise", [{"image": stack, "axes": "ZYX", "spacing": (2.0, 0.5, 0.5)}])[0]
    alone = run_algorithm("denoise", [{"image": stack[1]}])[0]["image"]

    assert result["image"].shape == stack.shape
    assert tuple(result["spacing"]) == (2.0, 0.5, 0.5)
    np.testing.assert_array_equal(result["image"][1], alone)
    assert journal.fractions[:3] == pytest.approx([1 / 3, 2 / 3, 1])


def test_log_tells_the_estimated_noise(run_algorithm: Run, journal: Any) -> None:
    """The estimate is within 10 % of the noise that was added."""
    run_algorithm("denoise", [{"image": noisy(picture("coins") / 255)}], {"method": "gaussian"})
    message = journal.lines[-1].message
    assert message.startswith("Noise (estimated): sigma ")
    assert float(message.split()[3]) == pytest.approx(SIGMA, rel=0.1)


def test_masked_surroundings_do_not_hide_the_noise(run_algorithm: Run, journal: Any) -> None:
    """Where most of the image is exactly 0, the noise of the rest counts."""
    image = np.zeros((256, 256), np.float32)
    image[:100, :100] = noisy(np.full((100, 100), 0.5))
    run_algorithm("denoise", [{"image": image}], {"method": "gaussian"})
    assert float(journal.lines[-1].message.split()[3]) == pytest.approx(SIGMA, rel=0.15)


@pytest.mark.parametrize(
    "args", [{}, {"method": "tv_chambolle"}, {"strength": 0.0}, {"method": "gaussian", "strength": 0.0}]
)
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (40, 40)])
def test_flat_image_comes_back(run_algorithm: Run, args: dict[str, Any], shape: tuple[int, int]) -> None:
    """An image without noise, however small, is returned as it is."""
    image = np.full(shape, 7, np.uint16)
    np.testing.assert_array_equal(run_algorithm("denoise", [{"image": image}], args)[0]["image"], image)


def test_drawing_comes_back(run_algorithm: Run) -> None:
    """Edges are no noise, where there is nothing else."""
    image = np.full((64, 64), 20, np.uint8)
    image[10:30, 10:30] = 90
    image[40:60, 5:50] = 200
    np.testing.assert_array_equal(run_algorithm("denoise", [{"image": image}])[0]["image"], image)


def test_given_sigma_is_used(run_algorithm: Run) -> None:
    """A `sigma` far too small leaves the noise, where the estimate removes it."""
    clean = picture("camera")[:64, :64].astype(np.float32) / 255
    image = noisy(clean)
    estimated = run_algorithm("denoise", [{"image": image}])[0]["image"]
    given = run_algorithm("denoise", [{"image": image}], {"sigma": 1e-3})[0]["image"]
    assert psnr(clean, given) < psnr(clean, image) + 1 < psnr(clean, estimated)


def test_wrong_values_are_refused(run_algorithm: Run) -> None:
    """A negative sigma and NaN are errors that say so."""
    image = np.ones((8, 8), np.float32)
    with pytest.raises(AlgorithmError, match=r"sigma is -1\.0"):
        run_algorithm("denoise", [{"image": image}], {"sigma": -1})
    image[2, 3] = np.nan
    with pytest.raises(AlgorithmError, match="slice 0 holds NaN"):
        run_algorithm("denoise", [{"image": image}])
