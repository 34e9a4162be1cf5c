"""Runs reference algorithms as the server does: built, stored, fetched, loaded, executed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import AlgorithmError
from t3d_server.execution.executor import LoadedAlgorithm, execute, load
from t3d_server.ids import new_id
from t3d_server.models import LogLine, RunRequest
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.fetch import fetch_package
from t3d_server.runs.acceptance import accept
from t3d_server.storage.memory import MemoryObjectStore

ALGORITHMS = Path(__file__).parents[2] / "algorithms"

RunAlgorithm = Callable[..., list[dict[str, Any]]]


class Journal:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.fractions: list[float] = []

    def log(self, line: LogLine) -> None:
        self.lines.append(line)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def cancelled(self) -> bool:
        return False


@pytest.fixture
def journal() -> Journal:
    """What the test's latest run told."""
    return Journal()


@pytest.fixture(scope="session")
def load_algorithm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedAlgorithm]:
    """`load_algorithm(name)`: as a replica has it, once for all runs."""
    objects, cache = MemoryObjectStore(), tmp_path_factory.mktemp("cache")

    @functools.cache
    def loaded(name: str) -> LoadedAlgorithm:
        built = build(ALGORITHMS / name, tags=load_tags())
        assert built.warnings == []
        package = fetch_package(objects, store_package(objects, built), cache)
        return load(package, built.manifest, "cpu", lambda line: None)

    return loaded


@pytest.fixture
def run_algorithm(tmp_path: Path, journal: Journal, load_algorithm: Callable[[str], LoadedAlgorithm]) -> RunAlgorithm:
    """`run_algorithm(name, datasets, args) -> results`; raises AlgorithmError where the run fails."""
    datasets = DatasetStore(MemoryObjectStore(), scratch=tmp_path / "scratch", max_dataset_bytes=2**30)

    def run(name: str, inputs: Sequence[Mapping[str, Any]], args: Mapping[str, Any] | None = None) -> list[Any]:
        algorithm = load_algorithm(name)
        request = RunRequest(input_dataset_ids=[datasets.add(values).id for values in inputs], args=dict(args or {}))
        accepted, _ = accept(algorithm.manifest, request, ["cpu"], new_id())
        outcome = execute(algorithm, accepted, datasets, journal)
        if outcome.error is not None:
            raise AlgorithmError(outcome.error.message, traceback=outcome.error.traceback)
        return [datasets.read(dataset_id) for dataset_id in outcome.output_dataset_ids]

    return run
