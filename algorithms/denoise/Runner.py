"""Denoises images slice by slice, each as strongly as its own noise asks for."""

from typing import Any

import numpy as np
from skimage.filters import gaussian
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from t3d_server.algorithm_utils.Image2ImageRunner import Image2ImageRunner

MAD_TO_SIGMA = 1 / 0.6745  # a normal distribution's standard deviation over its median absolute deviation


def estimate_sigma(image: np.ndarray) -> float:
    """Standard deviation of additive white noise.

    Args:
        image: float (Y, X) or (Y, X, 3), any intensity range.

    Returns:
        The noise in intensity units, the mean of the channels; 0 for an image without any.
    """
    sigmas = []
    for channel in np.moveaxis(np.atleast_3d(image), -1, 0):
        # Second differences along both axes are blind to even areas and straight edges; what remains is mostly noise.
        # Their weights [1, -2, 1] have the norm sqrt(6) along each axis.
        response = np.abs(np.diff(np.diff(channel, n=2, axis=0), n=2, axis=1)) / 6
        # Saturated and masked areas hold no noise, and would hide that of the rest.
        inside = channel[1:-1, 1:-1]
        response = response[(inside > channel.min()) & (inside < channel.max())]
        sigmas.append(np.median(response) * MAD_TO_SIGMA if response.size else 0.0)
    return float(np.mean(sigmas))


def denoise(image: np.ndarray, method: str, strength: float, sigma: float) -> np.ndarray:
    """Denoise one slice.

    Args:
        image: float (Y, X) or (Y, X, 3), any intensity range.
        method: "nl_means", "tv_chambolle" or "gaussian".
        strength: 1 suits the noise; for "gaussian" the blur's standard deviation in pixels.
        sigma: standard deviation of the noise, in intensity units.

    Returns:
        Shape and intensity range of `image`, float.
    """
    colour_axis = 2 if image.ndim == 3 else None
    cleaned: np.ndarray = image
    if method == "gaussian":
        cleaned = gaussian(image, strength, preserve_range=True, channel_axis=colour_axis)
    elif strength * sigma == 0:
        pass  # nothing to remove, and both methods divide by it
    elif method == "tv_chambolle":
        weight = 0.8 * strength * sigma
        cleaned = denoise_tv_chambolle(image, weight, eps=5e-5, channel_axis=colour_axis)
    else:
        cleaned = denoise_nl_means(
            image,
            patch_size=5,
            patch_distance=6,
            h=0.6 * strength * sigma,
            sigma=sigma,
            preserve_range=True,
            channel_axis=colour_axis,
        )
    return cleaned


class Runner(Image2ImageRunner):
    """Classical denoisers of scikit-image that need no training."""

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Denoise each slice.

        Args:
            data: (N, Y, X) or (N, Y, X, 3), any image dtype and intensity range.
            args: `method`, `strength` (no unit) and `sigma` (intensity units, 0 to estimate it); see pyproject.toml.

        Returns:
            Shape, dtype and intensity range of `data`.

        Raises:
            ValueError: `sigma` is negative, or a slice holds NaN or infinity.
        """
        if args["sigma"] < 0:
            raise ValueError(f"sigma is {args['sigma']}, but noise cannot be negative; 0 estimates it from the image")
        result = np.empty_like(data)
        sigmas = []
        for index, original in enumerate(data):
            image = original.astype(np.result_type(original.dtype, np.float32))
            if not np.isfinite(image).all():
                raise ValueError(f"slice {index} holds NaN or infinity; replace these pixels first")
            sigma = args["sigma"] or estimate_sigma(image)
            sigmas.append(sigma)
            cleaned = denoise(image, args["method"], args["strength"], sigma)
            if np.issubdtype(data.dtype, np.integer):
                limits = np.iinfo(data.dtype)
                cleaned = np.clip(np.rint(cleaned), limits.min, limits.max)
            result[index] = cleaned
            self.set_progress((index + 1) / len(data))
        origin = "given" if args["sigma"] else "estimated"
        self.log_message(f"Noise ({origin}): sigma {min(sigmas):.4g} to {max(sigmas):.4g}, in intensity units.")
        return result
