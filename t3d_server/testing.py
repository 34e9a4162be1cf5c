"""`run`: an algorithm folder on arrays, without a server, for authors' tests and notebooks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.errors import AlgorithmError, T3dError
from t3d_server.local import run_folder
from t3d_server.models import Device, LogLine
from t3d_server.packages.builder import build

Data = np.ndarray[Any, Any] | Mapping[str, Any] | str | os.PathLike[str]
"""One input: an array, which is its `image`; values by key; or the path of a file or folder."""

logger = logging.getLogger("t3d_server.testing")


def run(
    path: str | os.PathLike[str],
    arrays: Data | list[Data] | tuple[Data, ...],
    args: Mapping[str, Any] | None = None,
    *,
    device: Device | None = None,
    on_log: Callable[[LogLine], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> list[dict[str, Any]]:
    """Load the algorithm in a folder, run it once, and give its results.

    It runs in the calling thread, as a replica would run it: the manifest is checked, args are checked and completed,
    inputs and results are checked against their schemas. Each call imports the code anew, so that an edit counts.

    Args:
        path: the algorithm folder.
        arrays: the inputs: one, or a list of them. An array is an image: (Y, X), (Y, X, 3 or 4), (Z, Y, X) or
            (Z, Y, X, 3 or 4); uint8, int16, uint16, int32, float16, float32 or float64. Of three axes, a last one of 3
            or 4 is colour, else a first one of 3 is colour, else they are (Z, Y, X). A dictionary says otherwise, and
            holds more keys or others: `{"image": stack, "axes": "ZYX", "spacing": (2, 0.65, 0.65)}`,
            `{"data": table}`. A path is that of a HDF5, npy, npz, TIFF, PNG or JPEG file, or of a
            folder of slices, which are a stack.
        args: values of parameters; the others take their defaults.
        device: "cpu" or "gpu"; the algorithm's default where None.
        on_log: hears each line of the log (`time`, `level`, `message`); else they go to Python's `logging`, to the
            logger `t3d_server.testing`.
        on_progress: hears how far the run is, 0 to 1, whenever the code tells.

    Returns:
        The results in the order in which the algorithm gave them, each a dictionary of arrays, numbers and text as
        clients get them: with the image types one for each input (N-1 for Image2Alignment), under `image` (Y, X[, C])
        or (Z, Y, X[, C]), `mask` (Y, X) or (Z, Y, X), `features`, or `transform_matrix` (3, 3). Text that `postprocess`
        returned is in the log alone.

    Raises:
        InvalidPackageError, ImportFailedError, LoadFailedError: the folder is no working algorithm.
        InvalidDatasetError, UnsupportedMediaTypeError, FileNotFoundError: an input is no dataset.
        InvalidArgsError: lists every arg that is wrong.
        DeviceNotSupportedError: the algorithm, or this machine, does not run there.
        AlgorithmError: the run failed. Like the others it shows the traceback of the author's code.
    """
    __tracebackhide__ = True  # pytest shows the author's lines, and not these
    listener = _Listener(on_log or _to_logging, on_progress)
    inputs = arrays if isinstance(arrays, list | tuple) else [arrays]
    try:
        # Errors then tell where a relative path leads from here.
        folder = Path(path).absolute()
        built = build(folder, tags=load_tags())
        result = run_folder(folder, built, [_input(item) for item in inputs], args or {}, listener, device=device)
        result.raise_error()
    except T3dError as error:
        if error.traceback and not isinstance(error, AlgorithmError):  # whose text holds it
            error.add_note(error.traceback.rstrip())
        raise error.with_traceback(None) from None  # the author's lines are in the note; ours would hide them
    return result.outputs


def _input(data: Data) -> Path | Mapping[str, Any]:
    if isinstance(data, str | os.PathLike):
        return Path(data)
    return data if isinstance(data, Mapping) else {"image": data}


class _Listener:
    """Passes on what the run tells."""

    def __init__(self, on_log: Callable[[LogLine], None], on_progress: Callable[[float], None] | None) -> None:
        self.log = on_log
        self._on_progress = on_progress

    def progress(self, fraction: float) -> None:
        if self._on_progress is not None:
            self._on_progress(fraction)

    def cancelled(self) -> bool:
        return False


def _to_logging(line: LogLine) -> None:
    logger.log(getattr(logging, line.level), "%s", line.message)
