"""Isosurfaces by marching cubes."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.measure import marching_cubes
from Volume2MeshRunner import Volume2MeshRunner


class Runner(Volume2MeshRunner):
    """Finds the surface between dark and bright in each volume."""

    def inference(self, data: list[np.ndarray], args: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Vertices and faces of each volume, as `Volume2MeshRunner.postprocess` takes them."""
        meshes = []
        for index, volume in enumerate(data):
            darkest, brightest = float(volume.min()), float(volume.max())
            if darkest == brightest:
                raise ValueError(f"volume {index} has the same intensity everywhere: it has no surface")
            level = darkest + args["level"] * (brightest - darkest)
            vertices, faces, _, _ = marching_cubes(volume, level, step_size=args["step_size"])
            meshes.append((vertices, faces))
            self.log_message(f"volume {index}: {len(vertices)} vertices, {len(faces)} faces at intensity {level:g}")
            self.set_progress((index + 1) / len(data))
        return meshes
