"""`Image2AlignmentRunner`: two or more images in, transformation matrices out."""

from __future__ import annotations

from typing import Any

import numpy as np

from t3d_server.algorithm_utils.arrays import Array
from t3d_server.algorithm_utils.ImageRunner import ImageRunner
from t3d_server.algorithm_utils.io_schemas import NUMBERS, AlignmentSchema
from t3d_server.errors import InvalidDatasetError


class Image2AlignmentRunner(ImageRunner):
    """Base of algorithms that align each image with the one before; `inference` is left to write.

    Matrices are 3x3, homogeneous, act on (x, y) pixel-centre coordinates and map image i+1 onto image i, so that
    `skimage.transform.warp(image[i + 1], inverse_map=np.linalg.inv(matrix))` lies on image i.
    """

    algorithm_type = "Image2Alignment"
    output_schema = AlignmentSchema
    input_rule = f"{ImageRunner.input_rule} There are two slices at least: two images, or one stack."
    output_count = "one less than there are slices, in order: how each slice lies on the one before"

    def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> np.ndarray:
        """Fetch the images and make one stack of them.

        Args:
            input_data: `{"input_dataset_ids": [id, ...]}`; two or more images, or a stack.
            args: not used.

        Returns:
            (N, Y, X) or (N, Y, X, 3), N at least 2, the dtype of the input.

        Raises:
            InvalidDatasetError: there are fewer than two images, or shapes or dtypes differ.
        """
        images = super().preprocess(input_data, args)
        if len(images) < 2:
            raise InvalidDatasetError(
                "Image2Alignment needs two images at least, as two datasets or as one stack (axes ZYX), but got one"
            )
        return images

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        """Post the alignment of each image with the one before.

        Args:
            inference_output: N-1 matrices, as an array (N-1, 3, 3) or a list; or a list of N-1 dictionaries with
                `transform_matrix` and any other keys of `AlignmentSchema`.
            args: not used.

        Returns:
            N-1 ids, in order.
        """
        if not isinstance(inference_output, (list, tuple)):
            form, words = Array("(N-1, 3, 3)", dtypes=NUMBERS), "matrices as an array (N-1, 3, 3) or a list of N-1"
            inference_output = self._checked(inference_output, form, expected=words)
        expected = sum(layout.slices for layout in self._input_layouts()) - 1
        if len(inference_output) != expected:
            raise ValueError(
                f"Image2Alignment: `inference` must return {expected} matrices for {expected + 1} images, "
                f"but returned {len(inference_output)}"
            )
        return self.post_data([self._alignment(item) for item in inference_output])

    def _alignment(self, item: Any) -> dict[str, Any]:
        alignment = dict(item) if isinstance(item, dict) else {"transform_matrix": item}
        if "transform_matrix" in alignment:
            form, words = Array("(3, 3)", dtypes=NUMBERS), "matrices (3, 3)"
            matrix = self._checked(alignment["transform_matrix"], form, expected=words)
            if alignment.get("translation_matrix") is None:
                translation = alignment["translation_matrix"] = np.eye(3)
                translation[:2, 2] = matrix[:2, 2]
        return alignment
