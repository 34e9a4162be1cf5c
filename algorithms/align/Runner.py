"""Aligns images: starts from features or correlation, refines on the intensities."""

from typing import Any

import numpy as np
from registration.pair import Alignment, align, prepare

from t3d_server.algorithm_utils.Image2AlignmentRunner import Image2AlignmentRunner

LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue, after ITU-R BT.709
LEAST_SIDE = 16  # pixels
DOUBTFUL = 0.5  # unrelated photographs reach a confidence of 0.4


class Runner(Image2AlignmentRunner):
    """Classical registration that needs no training."""

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> list[dict[str, Any]]:
        """Align each image with the one before it.

        Args:
            data: (N, Y, X) or (N, Y, X, 3), any image dtype.
            args: `model`, `reference`, `region` (pixels), `sigmas` (pixels), `search_size` (pixels) and `min_overlap`
                (part of the image); see pyproject.toml.

        Returns:
            N-1 dictionaries with `transform_matrix` (image i+1 onto image i), `confidence`, `points1` and `points2`.

        Raises:
            ValueError: `region` or `sigmas` do not fit, the images are too small, or they hold NaN or infinity.
        """
        rows, columns = region_of(args["region"], data.shape[1:3])
        if not args["sigmas"] or min(args["sigmas"]) < 0:
            raise ValueError(f"sigmas is {args['sigmas']}, but must be one or more blurs in pixels, none negative")
        corner = np.array([columns.start, rows.start])
        fixed = None
        onto = np.eye(3)  # maps the image before onto the fixed one
        results: list[dict[str, Any]] = []
        for index, image in enumerate(data):
            moving = prepare(grey(image[rows, columns], index), args["sigmas"], args["search_size"])
            if index > 0:
                found = None
                if fixed is not None and moving is not None:
                    found = align(fixed, moving, onto, model=args["model"], min_overlap=args["min_overlap"])
                results.append(on_the_one_before(found, onto, corner))
                self.warn_of_doubt(index, results[-1]["confidence"])
            if index == 0 or args["reference"] == "previous":
                fixed = moving
            elif found is not None:
                onto = found.matrix
            self.set_progress((index + 1) / len(data))
        confidences = [result["confidence"] for result in results]
        self.log_message(f"Aligned {len(data)} images: confidence {min(confidences):.2f} to {max(confidences):.2f}.")
        return results

    def warn_of_doubt(self, index: int, confidence: float) -> None:
        """Say in the log that an image does not lie where it should."""
        if confidence < DOUBTFUL:
            what = "has nothing in common with" if confidence == 0 else "hardly fits"
            self.log_message(
                f"Image {index} {what} the one it is aligned with: confidence {confidence:.2f}. Check its matrix, "
                "or try another model, search_size or min_overlap.",
                "WARNING",
            )


def region_of(region: list[int], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a region.

    Args:
        region: [top, left, bottom, right] in pixels, or empty for all.
        shape: (Y, X) of the images.

    Raises:
        ValueError: it does not lie in the images, or is too small.
    """
    top, left, bottom, right = region if len(region) == 4 else (0, 0, *shape)
    if len(region) not in (0, 4) or not (0 <= top <= bottom <= shape[0] and 0 <= left <= right <= shape[1]):
        raise ValueError(
            f"region is {region}, but must be empty or [top, left, bottom, right] in pixels, "
            f"in images of {shape[0]} x {shape[1]} (height x width)"
        )
    if min(bottom - top, right - left) < LEAST_SIDE:
        raise ValueError(
            f"{bottom - top} x {right - left} pixels (height x width) are too few to align; "
            f"the least is {LEAST_SIDE} x {LEAST_SIDE}"
        )
    return slice(top, bottom), slice(left, right)


def grey(image: np.ndarray, index: int) -> np.ndarray:
    """An image as float64 (Y, X), colour as its luminance.

    Args:
        image: (Y, X) or (Y, X, 3), any image dtype.
        index: its number, for the error.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    values = image.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"image {index} holds NaN or infinity; replace these pixels first")
    return values @ LUMINANCE if values.ndim == 3 else values


def on_the_one_before(found: Alignment | None, onto: np.ndarray, corner: np.ndarray) -> dict[str, Any]:
    """Turn an alignment with the fixed image into one with the image before, as it is posted.

    Args:
        found: the alignment; None leaves the image where the one before lies.
        onto: maps the image before onto the fixed one.
        corner: (x, y) of the region in the image, in pixels.
    """
    if found is None:
        return {"transform_matrix": np.eye(3), "confidence": 0.0}
    shift = np.eye(3)
    shift[:2, 2] = corner
    back = np.linalg.inv(onto)
    return {
        "transform_matrix": shift @ back @ found.matrix @ np.linalg.inv(shift),
        "confidence": found.confidence,
        "points1": found.points1 @ back[:2, :2].T + back[:2, 2] + corner,
        "points2": found.points2 + corner,
    }
