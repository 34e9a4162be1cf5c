"""`Image2SegmentationRunner`: an image in, a segmentation mask out."""

from __future__ import annotations

from typing import Any

from t3d_server.algorithm_utils.ImageRunner import ImageRunner
from t3d_server.algorithm_utils.io_schemas import SegmentationSchema


class Image2SegmentationRunner(ImageRunner):
    """Base of algorithms that segment images; `inference` is left to write."""

    algorithm_type = "Image2Segmentation"
    output_schema = SegmentationSchema

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        """Post one mask for each input dataset.

        Args:
            inference_output: (N, Y, X), integers or bool, one slice for each input slice; 0 is background.
            args: not used.

        Returns:
            One id for each input dataset, in order. Where the spatial shape is unchanged, spacing is inherited.
        """
        stack = self._stack_of(inference_output, expected="an array (N, Y, X) of integers or bool", ndims=(3,))
        return self.post_data([{"mask": mask, **layout.inherited(mask.shape)} for layout, mask in self._regroup(stack)])
