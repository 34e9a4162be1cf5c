"""Embeds images with EfficientNet-Lite0, a small convolutional network trained on ImageNet."""

from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from t3d_server.algorithm_utils.Image2EmbeddingRunner import Image2EmbeddingRunner

# The network was trained on (value - 127) / 128 with values of 0 to 255.
CENTRE = 127 / 255
HALF_RANGE = 128 / 255


def to_unit_range(images: np.ndarray) -> np.ndarray:
    """Bring intensities to [0, 1], as the network knows them.

    Args:
        images: (N, Y, X) or (N, Y, X, 3), any image dtype.

    Returns:
        float32, shape of `images`. uint8 by its full range, so that dark images stay dark; other dtypes, whose range
        says little, by the 0.5 and 99.5 percentiles of each slice.
    """
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255
    images = images.astype(np.float32)
    within_slice = tuple(range(1, images.ndim))
    low, high = np.percentile(images, [0.5, 99.5], axis=within_slice, keepdims=True).astype(np.float32)
    contrast = np.where(high > low, high - low, np.float32(1))
    scaled: np.ndarray = np.clip((images - low) / contrast, 0, 1)
    return scaled


class Runner(Image2EmbeddingRunner):
    """EfficientNet-Lite0 without its classifier."""

    input_size = (224, 224)

    def load_assets(self) -> None:
        """Build the network with its pretrained weights."""
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(self.fetch_asset("files/efficientnet_lite0.pth"), weights_only=True))
        self.model = model.eval().to(self.device)

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Embed each slice.

        Args:
            data: (N, Y, X) or (N, Y, X, 3), any image dtype.
            args: `output`, `normalize` and `batch_size` (slices); see pyproject.toml.

        Returns:
            float32 (N, 1280), or (N, 1280, 7, 7) where `output` is "map".

        Raises:
            ValueError: a slice holds NaN or infinity.
        """
        batches = []
        for start in range(0, len(data), args["batch_size"]):
            images = data[start : start + args["batch_size"]]
            if not np.isfinite(images).all():
                last = start + len(images) - 1
                raise ValueError(f"a slice of {start} to {last} holds NaN or infinity; replace these pixels first")
            with torch.inference_mode():
                features = self.model.extract_features(self.to_input(images))
                if args["output"] == "vector":
                    features = features.mean(dim=(2, 3))
                if args["normalize"]:
                    features = torch.nn.functional.normalize(features, dim=1)
            batches.append(features.cpu().numpy())
            self.set_progress((start + len(images)) / len(data))
        return np.concatenate(batches)

    def to_input(self, images: np.ndarray) -> torch.Tensor:
        """Make the network's input.

        Args:
            images: (N, Y, X) or (N, Y, X, 3), any image dtype.

        Returns:
            float32 (N, 3, 224, 224) on the runner's device.
        """
        pixels = torch.from_numpy(to_unit_range(images)).to(self.device)
        channels_first = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(channels_first, size=self.input_size, mode="bilinear", antialias=True)
        return ((resized - CENTRE) / HALF_RANGE).expand(-1, 3, -1, -1)
