"""Runs an algorithm folder without a server, on the executor that replicas use."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t3d_server.datasets import slices
from t3d_server.datasets.formats import by_suffix
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import AlgorithmError
from t3d_server.execution.context import Listener
from t3d_server.execution.executor import execute, load
from t3d_server.ids import new_id
from t3d_server.models import Device, LogLine, Manifest, RunFailure, RunRequest, utc_now
from t3d_server.packages.builder import BuiltPackage
from t3d_server.packages.fetch import folder_package
from t3d_server.runs.acceptance import accept
from t3d_server.storage.memory import MemoryObjectStore

MAX_DATASET_BYTES = 64 * 1024**3


@dataclass(frozen=True)
class LocalRun:
    """What came of a run without a server.

    Attributes:
        manifest: the folder's manifest, the algorithm type resolved.
        inputs: the input datasets as the algorithm saw them, by id.
        outputs: the output datasets; empty where the run failed.
        error: why there are none; inputs are named by their file or place in it, not by id.
        times_s: how long loading and each finished phase took.
    """

    manifest: Manifest
    inputs: dict[str, dict[str, Any]]
    outputs: list[dict[str, Any]]
    error: RunFailure | None
    times_s: dict[str, float]

    def raise_error(self) -> None:
        """Return if the run succeeded.

        Raises:
            AlgorithmError: it failed; with the traceback of the author's code.
            KeyboardInterrupt: Ctrl-C ended it.
        """
        __tracebackhide__ = True  # pytest shows the author's lines, and not these
        if self.error is None:
            return
        if self.error.type == "KeyboardInterrupt":
            raise KeyboardInterrupt
        message = f"{self.manifest.name} failed: {self.error.type}: {self.error.message}"
        raise AlgorithmError(message, traceback=self.error.traceback, run_code=self.error.code)


def run_folder(
    folder: Path,
    built: BuiltPackage,
    inputs: Sequence[Path | Mapping[str, Any]],
    args: Mapping[str, Any],
    listener: Listener,
    *,
    device: Device | None = None,
) -> LocalRun:
    """Load the algorithm in a folder and run it once, from the author's own source.

    Args:
        folder: the algorithm folder.
        built: what `build` made of it.
        inputs: files (HDF5, npy, npz, TIFF, PNG, JPEG), folders of slices, or dictionaries of arrays.
        args: values of parameters.
        listener: hears of log lines, also of those while loading, and of progress.
        device: where to run; the algorithm's default where None.

    Raises:
        ImportFailedError, LoadFailedError: the folder is no working algorithm.
        InvalidDatasetError, UnsupportedMediaTypeError: an input cannot be read.
        InvalidArgsError, DeviceNotSupportedError: the request does not fit the algorithm.
    """
    with tempfile.TemporaryDirectory(prefix="t3d-") as scratch:
        datasets = DatasetStore(MemoryObjectStore(), scratch=Path(scratch), max_dataset_bytes=MAX_DATASET_BYTES)
        ids = [_add(datasets, item) for item in inputs]
        request = RunRequest(input_dataset_ids=ids, args=dict(args), device=device)
        run, warnings = accept(built.manifest, request, _devices_for(built.manifest), new_id(), where="this machine")
        for warning in [*built.warnings, *warnings]:
            listener.log(LogLine(time=utc_now(), level="WARNING", message=warning))
        began = time.perf_counter()
        algorithm = load(folder_package(folder), built.manifest, run.resolved_device, listener.log)
        load_time_s = time.perf_counter() - began
        outcome = execute(algorithm, run, datasets, listener)
        names = [str(item) if isinstance(item, Path) else f"input {index}" for index, item in enumerate(inputs)]
        return LocalRun(
            manifest=algorithm.manifest,
            inputs={dataset_id: datasets.read(dataset_id) for dataset_id in ids},
            outputs=[datasets.read(dataset_id) for dataset_id in outcome.output_dataset_ids],
            error=_named(outcome.error, dict(zip(ids, names, strict=True))),
            times_s={"load_assets": load_time_s, **(outcome.phase_times_s or {})},
        )


def _devices_for(manifest: Manifest) -> list[Device]:
    """Devices of this machine that an algorithm may use."""
    if "gpu" not in manifest.supported_devices:
        return ["cpu"]
    try:
        import torch  # here, since it takes seconds
    except ImportError:
        return ["cpu"]
    return ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]


def _named(error: RunFailure | None, names: Mapping[str, str]) -> RunFailure | None:
    """The error, with names in place of ids."""
    if error is None:
        return None
    told = {"message": error.message, "traceback": error.traceback}
    for dataset_id, name in names.items():
        told = {field: text.replace(dataset_id, name) for field, text in told.items()}
    return error.model_copy(update=told)


def _add(datasets: DatasetStore, item: Path | Mapping[str, Any]) -> str:
    if isinstance(item, Path) and item.is_dir():
        stack = slices.find(item)
        return datasets.add({"image": np.stack(list(stack)), "axes": stack.axes}).id
    if isinstance(item, Path):
        return datasets.add_upload(item, by_suffix(item).media_type).id
    return datasets.add(item).id
