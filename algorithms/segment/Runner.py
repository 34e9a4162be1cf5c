"""Segments images slice by slice: background, threshold, clean-up, splitting, selection."""

from typing import Any

import numpy as np
from segmentation.conditions import Condition, parse
from segmentation.foreground import GLOBAL_METHODS, above_level, above_surroundings, prominence, to_grey
from segmentation.objects import CLEANUPS, clean_up, number, select

from t3d_server.algorithm_utils.Image2SegmentationRunner import Image2SegmentationRunner


class Runner(Image2SegmentationRunner):
    """Classical segmentation by thresholds that needs no training."""

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Segment each slice.

        Args:
            data: (N, Y, X) or (N, Y, X, 3), any image dtype and intensity range.
            args: see pyproject.toml. Lengths are in pixels, `level` is in intensity units.

        Returns:
            (N, Y, X), 0 is background: int32, the objects of each slice numbered from 1, or uint8 0 and 1.

        Raises:
            ValueError: args do not fit, or a slice holds NaN or infinity.
        """
        conditions = read_conditions(args)
        result = np.zeros(data.shape[:3], np.uint8 if args["output"] == "binary" else np.int32)
        levels, counts = [], []
        for index, image in enumerate(data):
            grey = to_grey(image)
            if not np.isfinite(grey).all():
                raise ValueError(f"slice {index} holds NaN or infinity; replace these pixels first")
            mask, level = find_foreground(grey, args)
            mask = clean_up(mask, args["cleanup"], args["cleanup_radius"])
            labels = select(number(mask, args["split"]), grey, args["clear_borders"], conditions)
            result[index] = labels > 0 if args["output"] == "binary" else labels
            levels.append(level)
            counts.append(labels.max())
            self.set_progress((index + 1) / len(data))
        if args["method"] in GLOBAL_METHODS:
            units = "intensity units above the background" if args["background"] else "intensity units"
            self.log_message(f"Threshold ({args['method']}): {min(levels):.4g} to {max(levels):.4g}, in {units}.")
        self.log_message(f"Objects: {min(counts)} to {max(counts)} in a slice, {sum(counts)} in all.")
        return result


def read_conditions(args: dict[str, Any]) -> list[Condition]:
    """What objects must fulfil to stay.

    Raises:
        ValueError: args do not fit; it tells of every such arg.
    """
    conditions, problems = parse(args["keep"])
    problems = [f"keep: {problem}" for problem in problems]
    if unknown := [step for step in args["cleanup"] if step not in CLEANUPS]:
        problems.append(f"cleanup: {', '.join(map(repr, unknown))} unknown; the steps are {', '.join(CLEANUPS)}")
    if len(args["clear_borders"]) != 4:
        problems.append(f"clear_borders: {args['clear_borders']}, but top, right, bottom and left are four values")
    if args["min_size"] < 0:
        problems.append(f"min_size: {args['min_size']}, but no object has fewer than 0 pixels")
    if problems:
        raise ValueError("; ".join(problems))
    return [Condition("area", ">=", args["min_size"]), *conditions]


def find_foreground(grey: np.ndarray, args: dict[str, Any]) -> tuple[np.ndarray, float]:
    """The pixels of objects.

    Args:
        grey: float (Y, X), finite.
        args: of the run.

    Returns:
        bool (Y, X), and the threshold: in intensity units of `grey`, or above its background where that is taken away.
    """
    raised = prominence(grey, args["objects"], args["smoothing"], args["background"])
    sign = -1 if args["objects"] == "dark" and not args["background"] else 1
    if args["method"] == "manual":
        return raised > sign * args["level"], args["level"]
    if args["method"] == "sauvola":
        return above_surroundings(raised, grey, args["local_radius"]), np.nan
    mask, level = above_level(raised, grey, args["method"])
    return mask, sign * level
