"""`Image2SegmentationRunner`: an image in, a segmentation mask out."""

from __future__ import annotations

from typing import Any

import numpy as np

from t3d_server.algorithm_utils.arrays import INTEGERS, Array
from t3d_server.algorithm_utils.ImageRunner import ImageRunner, Layout
from t3d_server.algorithm_utils.io_schemas import SegmentationSchema


class Image2SegmentationRunner(ImageRunner):
    """Base of algorithms that segment images; `inference` is left to write."""

    algorithm_type = "Image2Segmentation"
    output_schema = SegmentationSchema

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        """Post one mask for each input dataset.

        Args:
            inference_output: (N, Y, X), an array or a list of N, one slice for each input slice; integers or bool,
                0 is background. Each mask has the spatial shape of its image.
            args: not used.

        Returns:
            One id for each input dataset, in order, with the spacing of the image.

        Raises:
            TypeError: it is no array of masks.
            ValueError: there are more or fewer masks than slices, or masks of another size.
        """
        stack = self._checked(
            inference_output,
            Array("(N, Y, X)", dtypes=("bool", *INTEGERS)),
            expected="an array (N, Y, X) of integers or bool",
            remedy="make a mask of it by `> 0.5` where it holds probabilities, by .astype(np.uint16) where labels",
        )
        return self.post_data([self._segmentation(layout, mask) for layout, mask in self._regroup(stack)])

    def _segmentation(self, layout: Layout, mask: np.ndarray) -> dict[str, Any]:
        if mask.shape != layout.spatial_shape:
            raise ValueError(
                f"{self.algorithm_type}: a mask must have the spatial shape of its image, {layout.spatial_shape}, "
                f"but `inference` returned one of shape {mask.shape}; bring it to the size of the image, by a resize "
                "of order 0 or by padding"
            )
        return {"mask": mask, **layout.inherited(mask.shape)}
