"""The algorithm type `Volume2Mesh`: volumes in, surfaces out."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from t3d_server.algorithm_utils import Array, DataSchema, TypedRunner, VolumeSchema


class MeshSchema(DataSchema):
    """A surface of triangles."""

    vertices: Annotated[np.ndarray, Array("(V, 3)", dtypes=["float32", "float64"], stored=["float32"])] = Field(
        description="Points in axis order, Z, Y and X; multiples of `unit`, voxels where that is absent."
    )
    faces: Annotated[np.ndarray, Array("(F, 3)", dtypes=["int32", "int64"], stored=["int32"])] = Field(
        description="Triangles: each three indices into `vertices`."
    )
    unit: str | None = Field(default=None, description="Unit of `vertices`; absent where the volume has no spacing.")


class Volume2MeshRunner(TypedRunner):
    """Base of algorithms that find surfaces in volumes; `inference` is left to write."""

    algorithm_type = "Volume2Mesh"
    algorithm_tags = {
        "isosurface": "the surface where the intensity has one value",
        "mesh-segmentation": "the surfaces of objects that the algorithm finds",
    }
    input_schema = VolumeSchema
    output_schema = MeshSchema
    input_rule = "Volumes of one run may differ in shape, dtype and spacing."
    output_count = "one for each input, in order"

    def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> list[np.ndarray]:
        """Fetch the volumes.

        Args:
            input_data: `{"input_dataset_ids": [id, ...]}`.
            args: not used.

        Returns:
            N volumes (Z, Y, X), in the dtype of the input; their shapes may differ.
        """
        datasets = self.fetch_data(input_data["input_dataset_ids"])
        # A run has a runner of its own: what it sets on `self` does not meet other runs.
        self._scales = [self._scale(dataset) for dataset in datasets]
        return [dataset["volume"] for dataset in datasets]

    def postprocess(self, inference_output: list[tuple[np.ndarray, np.ndarray]], args: dict[str, Any]) -> list[str]:
        """Post one mesh for each volume, in physical units where the volume has a spacing.

        Args:
            inference_output: for each of the N volumes its vertices, floats (V, 3), in voxels and axis order, and its
                faces, integers (F, 3).
            args: not used.

        Returns:
            N ids, in order.
        """
        if len(inference_output) != len(self._scales):
            raise ValueError(f"inference gave {len(inference_output)} meshes for {len(self._scales)} volumes")
        meshes = zip(inference_output, self._scales, strict=True)
        return self.post_data(
            [
                {"vertices": vertices * spacing, "faces": faces, "unit": unit}
                for (vertices, faces), (spacing, unit) in meshes
            ]
        )

    @staticmethod
    def _scale(dataset: dict[str, Any]) -> tuple[np.ndarray, str | None]:
        """Size of a voxel, float64 (3,), and its unit."""
        if dataset["spacing"] is None:
            return np.ones(3), None
        return np.array(dataset["spacing"]), dataset["spacing_unit"] or "um"
