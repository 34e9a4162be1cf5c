"""What a runner may touch: while it loads its assets, and during one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from t3d_server.clock import SYSTEM_CLOCK, Clock
from t3d_server.errors import InvalidDatasetError, Problem, RunCancelled, T3dError
from t3d_server.ids import canonical
from t3d_server.models import DatasetInfo, LogLine
from t3d_server.packages.loader import Package
from t3d_server.run_log import log_line

PARALLEL_READS = 8


class Datasets(Protocol):
    """The datasets a run reads and writes."""

    def read(self, dataset_id: str) -> dict[str, Any]:
        """All keys of a dataset."""

    def add(self, values: dict[str, Any]) -> DatasetInfo:
        """Store a dataset."""

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset."""


class Listener(Protocol):
    """Who hears the news of a run."""

    def log(self, line: LogLine) -> None:
        """A new line of the log."""

    def progress(self, fraction: float) -> None:
        """How far the run is, 0 to 1."""

    def cancelled(self) -> bool:
        """Whether the run is to stop."""


class LoadContext:
    """What a runner may touch while it loads its assets: its own files, and the log."""

    run_id = ""

    def __init__(self, package: Package, log: Callable[[LogLine], None]) -> None:
        self._package = package
        self._log = log

    def asset(self, path: str) -> Path:
        """Local file that holds an asset."""
        return self._package.asset(path)

    def log(self, message: str, level: str) -> None:
        """Add a line to the replica's log."""
        self._log(log_line(str(message), level, SYSTEM_CLOCK.now()))

    def fetch(self, dataset_ids: list[str], schema: type[BaseModel], *, parallel: bool) -> list[dict[str, Any]]:
        """Not possible: see the error."""
        raise RuntimeError("fetch_data is not possible in load_assets: datasets belong to a run; call it in preprocess")

    def post(self, results: list[dict[str, Any]], schema: type[BaseModel]) -> list[str]:
        """Not possible: see the error."""
        raise RuntimeError("post_data is not possible in load_assets: results belong to a run; call it in postprocess")

    def progress(self, fraction: float) -> None:
        """Loading has no progress."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Not possible: see the error."""
        raise RuntimeError("run is not possible in load_assets")
        yield


class RunContext:
    """What a runner may touch during one run. Every call stops a cancelled run.

    Attributes:
        run_id: id of the run.
        posted: ids of the datasets posted so far.
        phase_times_s: how long each finished phase took.
    """

    def __init__(
        self,
        run_id: str,
        package: Package,
        datasets: Datasets,
        listener: Listener,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.run_id = run_id
        self.posted: list[str] = []
        self.phase_times_s: dict[str, float] = {}
        self.stopped = False
        self._package = package
        self._datasets = datasets
        self._listener = listener
        self._clock = clock
        self._ended = False
        self._clamped = False

    def asset(self, path: str) -> Path:
        """Local file that holds an asset."""
        self._check()
        return self._package.asset(path)

    def fetch(self, dataset_ids: list[str], schema: type[BaseModel], *, parallel: bool) -> list[dict[str, Any]]:
        """Read datasets and validate them; see `BaseRunner.fetch_data`."""
        self._check()
        if isinstance(dataset_ids, str) or not all(isinstance(item, str) for item in dataset_ids):
            raise TypeError(f"fetch_data takes a list of dataset ids, but got {dataset_ids!r}")
        dataset_ids = [canonical(item) for item in dataset_ids]  # an arg may have brought an id from the v0 API
        if parallel and len(dataset_ids) > 1:
            with ThreadPoolExecutor(min(PARALLEL_READS, len(dataset_ids))) as pool:
                return list(pool.map(lambda item: self._read(item, schema), dataset_ids))
        return [self._read(item, schema) for item in dataset_ids]

    def post(self, results: list[dict[str, Any]], schema: type[BaseModel]) -> list[str]:
        """Validate results and store them, all or none; see `BaseRunner.post_data`."""
        self._check()
        if not isinstance(results, (list, tuple)):
            raise TypeError(f"post_data takes a list of dictionaries, but got {type(results).__name__}")
        validated = [_validate(result, schema, f"result {index}") for index, result in enumerate(results)]
        ids: list[str] = []
        try:
            for index, values in enumerate(validated):
                ids.append(self._add(values, index))
            self.posted += ids
            self._require_open()  # it may have ended meanwhile, after a look at what was posted
        except BaseException:
            self._delete(ids)
            raise
        return ids

    def log(self, message: str, level: str) -> None:
        """Add a line to the run's log."""
        self._check()
        self._listener.log(log_line(str(message), level, self._clock.now()))

    def progress(self, fraction: float) -> None:
        """Tell how far the run is; values outside 0 to 1 are clamped, with one warning."""
        self._check()
        clamped = 0.0 if math.isnan(fraction) else min(1.0, max(0.0, float(fraction)))
        if clamped != fraction and not self._clamped:
            self._clamped = True
            hint = f"; it is a fraction: did you mean {fraction / 100:g}?" if 1 < fraction <= 100 else ""
            text = f"set_progress({fraction}) is outside of 0 to 1 and was clamped{hint}"
            self._listener.log(log_line(text, "WARNING", self._clock.now()))
        self._listener.progress(clamped)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase of the run."""
        self._check()
        began = time.perf_counter()
        yield
        self.phase_times_s[name] = time.perf_counter() - began

    def close(self) -> None:
        """End the run: a thread that the author's code left behind cannot reach it any more."""
        self._ended = True

    def keep(self, dataset_ids: list[str]) -> None:
        """Remove what was posted, but for these. What cannot be removed stays: it must not change how the run ends."""
        self._delete([dataset_id for dataset_id in self.posted if dataset_id not in dataset_ids])

    def _require_open(self) -> None:
        if self._ended:
            raise RuntimeError(f"run {self.run_id} has ended: a thread that outlives its run cannot call the server")

    def _check(self) -> None:
        self._require_open()
        if self._listener.cancelled():
            self.stopped = True
            raise RunCancelled

    def _delete(self, dataset_ids: list[str]) -> None:
        for dataset_id in dataset_ids:
            with suppress(T3dError):
                self._datasets.delete(dataset_id)

    def _add(self, values: dict[str, Any], index: int) -> str:
        try:
            return self._datasets.add(values).id
        except InvalidDatasetError as error:
            # Without the cause, which says the same.
            raise InvalidDatasetError(f"result {index}: {error.message}", problems=error.problems) from None

    def _read(self, dataset_id: str, schema: type[BaseModel]) -> dict[str, Any]:
        return _validate(self._datasets.read(dataset_id), schema, f"dataset {dataset_id}")


def _validate(values: Any, schema: type[BaseModel], what: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InvalidDatasetError(f"{what}: a dictionary is expected, but got {type(values).__name__}")
    try:
        return dict(schema.model_validate(values))
    except ValidationError as error:
        raise InvalidDatasetError(
            f"{what} does not fit {schema.__name__}; it has {', '.join(map(str, values)) or 'no keys'}",
            problems=[
                Problem(".".join(map(str, fault["loc"])), _said(fault))
                for fault in error.errors(include_url=False, include_context=False)
            ],
        ) from None


def _said(fault: ErrorDetails) -> str:
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "value_error":
        return fault["msg"].removeprefix("Value error, ")
    return f"{fault['msg']}, but got {type(fault['input']).__name__}"
