"""Puts the slices of a stack on each other by `align`, and saves them as a TIFF.

t3d deploy algorithms/align
python examples/register_stack.py                           # of a sample, a camera that drifts
python examples/register_stack.py scan.tif registered.tif --model rigid --reference first
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage import data
from skimage.transform import warp

from t3d_server import Client

LEAST_CONFIDENCE = 0.5


def sample() -> dict[str, Any]:
    """8 noisy images of 256 x 256 pixels by a camera that drifts and turns: ever other parts of one photograph."""
    photograph = data.camera() / 255
    window = np.array([[1, 0, 128], [0, 1, 128], [0, 0, 1]])
    noise = np.random.default_rng(0)
    slices = []
    for z in range(8):
        angle = np.deg2rad(z)
        drift = [[np.cos(angle), -np.sin(angle), 3.3 * z], [np.sin(angle), np.cos(angle), -1.6 * z], [0, 0, 1]]
        image = warp(photograph, window @ drift, output_shape=(256, 256), order=3)
        slices.append(np.clip(255 * image + noise.normal(0, 8, image.shape), 0, 255).astype(np.uint8))
    return {"image": np.stack(slices), "axes": "ZYX", "spacing": (2.0, 0.5, 0.5)}


def onto_the_first(results: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """A matrix for each slice that maps it onto the first; `results` map each slice onto the one before."""
    matrices = [np.eye(3)]
    for z, result in enumerate(results, start=1):
        # Where two slices have little in common, any matrix is worse than none.
        sure = result["confidence"] >= LEAST_CONFIDENCE
        matrices.append(matrices[-1] @ result["transform_matrix"] if sure else matrices[-1])
        (x, y), angle = matrices[-1][:2, 2], np.rad2deg(np.arctan2(matrices[-1][1, 0], matrices[-1][0, 0]))
        left_out = "" if sure else ", left where the one before lies"
        print(f"slice {z}: x {x:+.2f} y {y:+.2f} px, {angle:+.2f} degrees, {result['confidence']:.2f} sure{left_out}")
    return matrices


def moved(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A slice where its matrix puts it, with its dtype; 0 where it shows nothing."""
    # Linear, so that no intensity comes out that was not there.
    result: np.ndarray = warp(image, np.linalg.inv(matrix), order=1, preserve_range=True)
    return (np.rint(result) if np.issubdtype(image.dtype, np.integer) else result).astype(image.dtype)


def save(path: Path, stack: np.ndarray, spacing: Sequence[float] | None, unit: str) -> None:
    """Write an OME-TIFF, which keeps the spacing."""
    metadata: dict[str, Any] = {"axes": "ZYX" if stack.ndim == 3 else "ZYXS"}
    for axis, size in zip("ZYX", spacing or (), strict=False):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit.replace("um", "µm")}
    tifffile.imwrite(path, stack, ome=True, metadata=metadata, photometric="minisblack" if stack.ndim == 3 else "rgb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "stack", type=Path, nargs="?", help="TIFF, HDF5 or npy file; a sample is made where none is given"
    )
    parser.add_argument("result", type=Path, nargs="?", default=Path("registered.ome.tif"), help="TIFF to write")
    parser.add_argument("--model", default="rigid", help="translation, rigid, similarity or affine")
    parser.add_argument("--reference", default="previous", help="what slices are compared with: previous or first")
    parser.add_argument("--axes", default="ZYX", help="of the stack; ZYXC is one in colour")
    options = parser.parse_args()

    with Client() as t3d:  # the local server; else T3D_URL and T3D_TOKEN
        # Said, as 3 or 4 slices could be the channels of one colour image.
        dataset = t3d.upload(options.stack or sample(), axes=options.axes)
        run = t3d.submit("align", dataset, args={"model": options.model, "reference": options.reference})
        for event in run.events():  # ends with the run
            print(f"{event.status} {event.progress:.0%}")
        results = run.result()
        stack = t3d.fetch_array(dataset.id)

    matrices = onto_the_first(results)
    registered = np.stack([moved(image, matrix) for image, matrix in zip(stack, matrices, strict=True)])
    save(options.result, registered, dataset.spacing, dataset.spacing_unit or "um")
    print(f"{options.result}: {registered.shape}, {registered.dtype}")


if __name__ == "__main__":
    main()
