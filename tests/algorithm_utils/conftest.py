"""Runs runner classes that a test defines, as the server runs those of packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from t3d_server.algorithm_utils import BaseRunner
from t3d_server.algorithm_utils.BaseRunner import create_runner
from t3d_server.datasets.store import DatasetStore
from t3d_server.execution.context import LoadContext
from t3d_server.execution.executor import LoadedAlgorithm, execute
from t3d_server.ids import new_id
from t3d_server.models import LogLine, Manifest, Run, utc_now
from t3d_server.packages.loader import LoadedModule, Package
from t3d_server.runs.interface import Outcome
from t3d_server.storage.memory import MemoryObjectStore


class Bench:
    """Datasets in memory, a folder of assets, and what runs have told.

    Attributes:
        folder: the algorithm folder, empty at first.
        objects: the object store below `datasets`.
        datasets: what runs read and write.
        input_ids: ids of the inputs of the latest run.
        log_lines: (level, message) of all runs.
        fractions: the progress that they reported.
        cancel_when: tells whether the run is cancelled, asked at each call of the server.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "algorithm"
        self.folder.mkdir()
        self.objects = MemoryObjectStore()
        self.datasets = DatasetStore(self.objects, scratch=tmp_path / "scratch", max_dataset_bytes=2**28)
        self.input_ids: list[str] = []
        self.log_lines: list[tuple[str, str]] = []
        self.fractions: list[float] = []
        self.cancel_when: Callable[[], bool] = lambda: False

    def log(self, line: LogLine) -> None:
        self.log_lines.append((line.level, line.message))

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def cancelled(self) -> bool:
        return self.cancel_when()

    def load(self, runner_class: type[BaseRunner]) -> LoadedAlgorithm:
        package = Package(self.folder, lambda path: self.folder / path)
        runner = create_runner(runner_class, LoadContext(package, self.log), "cpu")
        return LoadedAlgorithm(
            Manifest(name="tested", version="1.0.0"), package, LoadedModule(runner_class, [], nullcontext), runner
        )

    def execute(
        self,
        runner: type[BaseRunner] | LoadedAlgorithm,
        inputs: Sequence[Mapping[str, Any]] = (),
        args: Mapping[str, Any] | None = None,
        *,
        times: int = 1,
    ) -> Outcome:
        """Run once; the inputs are stored first, and their ids given to the run so many times."""
        self.input_ids = [self.datasets.add(values).id for values in inputs] * times
        run = Run(
            id=new_id(),
            algorithm="tested",
            version="1.0.0",
            resolved_device="cpu",
            input_dataset_ids=self.input_ids,
            args=dict(args or {}),
            created_at=utc_now(),
        )
        algorithm = runner if isinstance(runner, LoadedAlgorithm) else self.load(runner)
        return execute(algorithm, run, self.datasets, self)

    def results(self, runner: type[BaseRunner], inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What a run that succeeds has made."""
        outcome = self.execute(runner, inputs)
        assert outcome.error is None, outcome.error
        return [self.datasets.read(dataset_id) for dataset_id in outcome.output_dataset_ids]

    def failure(self, runner: type[BaseRunner], inputs: Sequence[Mapping[str, Any]] = ()) -> str:
        """Type and message of a run that fails."""
        outcome = self.execute(runner, inputs)
        assert outcome.error is not None
        return f"{outcome.error.type}: {outcome.error.message}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
