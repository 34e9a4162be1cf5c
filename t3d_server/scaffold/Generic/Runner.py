"""Measures images: the place for an algorithm that fits no other type."""

from typing import Any

import numpy as np
from t3d_server.algorithm_utils import BaseRunner, DataSchema, ImageSchema


class IntensitiesSchema(DataSchema):
    """What this algorithm gives for each image; each field is a key of the result.

    Attributes:
        counts: int64 (bins,), how many pixels are in each bin.
        edges: float64 (bins + 1,), where the bins begin and end, in intensity units.
        mean: in intensity units.
        std: standard deviation, in intensity units.
    """

    counts: np.ndarray
    edges: np.ndarray
    mean: float
    std: float


class Runner(BaseRunner):
    """What the server runs; it makes one object and keeps it for all runs.

    A run calls `preprocess`, `inference` and `postprocess`, each with what the one before
    returned. To load a model once, write `load_assets(self)`:
    `self.fetch_asset("files/model.npz")` opens a file of this folder, and what is set on
    `self` there is set in every run. `self.device` is "cpu" or "cuda".
    """

    # What clients are told of inputs and results.
    input_schema = ImageSchema
    output_schema = IntensitiesSchema
    output_count = "one for each input, in order"

    def preprocess(
        self, input_data: dict[str, Any], args: dict[str, Any]
    ) -> list[np.ndarray]:
        """Fetch the inputs; `ImageSchema` says what each of them has to hold.

        Args:
            input_data: `{"input_dataset_ids": [id, ...]}`.
            args: a value for every parameter in pyproject.toml: `bins`, int.

        Returns:
            The images, each (Y, X), (Y, X, 3), (Z, Y, X) or (Z, Y, X, 3), of any image
            dtype.
        """
        datasets = self.fetch_data(input_data["input_dataset_ids"], self.input_schema)
        return [dataset["image"] for dataset in datasets]

    def inference(
        self, data: list[np.ndarray], args: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Measure each image.

        Args:
            data: what `preprocess` returned.
            args: a value for every parameter.

        Returns:
            A dictionary for each image, with the keys of `IntensitiesSchema`.
        """
        results = []
        for index, image in enumerate(data):
            counts, edges = np.histogram(image, bins=args["bins"])
            result = {"counts": counts, "edges": edges}
            results.append(result | {"mean": image.mean(), "std": image.std()})
            self.set_progress((index + 1) / len(data))
        self.log_message(f"Measured {len(data)} images.")
        return results

    def postprocess(
        self, inference_output: list[dict[str, Any]], args: dict[str, Any]
    ) -> list[str]:
        """Store the results.

        Args:
            inference_output: what `inference` returned.
            args: a value for every parameter.

        Returns:
            The ids of the stored datasets, which the client gets.
        """
        return self.post_data(inference_output, self.output_schema)
