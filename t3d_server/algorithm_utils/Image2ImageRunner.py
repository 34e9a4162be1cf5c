"""`Image2ImageRunner`: an image in, an image out."""

from __future__ import annotations

from typing import Any

import numpy as np

from t3d_server.algorithm_utils.arrays import Array
from t3d_server.algorithm_utils.ImageRunner import ImageRunner
from t3d_server.algorithm_utils.io_schemas import IMAGE_DTYPES, ImageSchema

_SLICES = Array("(N, Y, X)", "(N, Y, X, 3 or 4)", dtypes=IMAGE_DTYPES)
_EXPECTED = f"an array {' or '.join(_SLICES.shapes)}, {', '.join(IMAGE_DTYPES[:-1])} or {IMAGE_DTYPES[-1]}"


class Image2ImageRunner(ImageRunner):
    """Base of algorithms that turn images into images; `inference` is left to write."""

    algorithm_type = "Image2Image"
    output_schema = ImageSchema

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        """Post one image or stack for each input dataset.

        Args:
            inference_output: (N, Y, X) or (N, Y, X, 3 or 4), an array or a list of N, one slice for each input slice;
                an image dtype.
            args: not used.

        Returns:
            One id for each input dataset, in order. Colours come first where they did in the input. Where the spatial
            shape is unchanged, spacing is inherited.
        """
        stack = self._checked(inference_output, _SLICES, expected=_EXPECTED)
        results = []
        for layout, image in self._regroup(stack):
            axes = ("Z" if layout.stacked else "") + ("YXC" if stack.ndim == 4 else "YX")
            spatial_shape = image.shape[: image.ndim - (stack.ndim == 4)]
            if axes == "YXC" and layout.channels_first:
                axes, image = "CYX", np.moveaxis(image, -1, 0)
            results.append({"image": image, "axes": axes, **layout.inherited(spatial_shape)})
        return self.post_data(results)
