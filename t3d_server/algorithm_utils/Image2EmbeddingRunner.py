"""`Image2EmbeddingRunner`: an image in, a deep-learning embedding out."""

from __future__ import annotations

from typing import Any

from t3d_server.algorithm_utils.arrays import FLOATS, Array
from t3d_server.algorithm_utils.ImageRunner import ImageRunner
from t3d_server.algorithm_utils.io_schemas import EmbeddingSchema


class Image2EmbeddingRunner(ImageRunner):
    """Base of algorithms that embed images; `inference` is left to write.

    Attributes:
        input_size: (height, width) in pixels of what the network sees, to be set where images are resized;
            None stands for the size of the images.
    """

    algorithm_type = "Image2Embedding"
    output_schema = EmbeddingSchema
    input_size: tuple[int, int] | None = None

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        """Post the features of each input dataset.

        Args:
            inference_output: (N, D) or (N, C, h, w), or a list of N arrays (D,) or (C, h, w); floats, one for each
                input slice. The sizes h and w in a list may differ, but not within a stack.
            args: not used.

        Returns:
            One id for each input dataset, in order: features (D,) or (C, h, w) of a single image, with a leading axis
            Z for a stack.
        """
        features: Any
        if isinstance(inference_output, (list, tuple)):
            form, expected = Array("(D,)", "(C, h, w)", dtypes=FLOATS), "floats (D,) or (C, h, w) in its list"
            features = [self._checked(item, form, expected=expected) for item in inference_output]
        else:
            form, expected = (
                Array("(N, D)", "(N, C, h, w)", dtypes=FLOATS),
                "floats (N, D) or (N, C, h, w), or a list of N",
            )
            features = self._checked(inference_output, form, expected=expected)
        return self.post_data(
            [
                {"features": part, "input_size": self.input_size or layout.size, "original_size": layout.size}
                for layout, part in self._regroup(features)
            ]
        )
