"""The datasets of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import DatasetNotFoundError, StoreUnavailableError
from t3d_server.execution.run_datasets import RunDatasets
from t3d_server.ids import new_id, tag_for, tag_of
from t3d_server.storage.memory import MemoryObjectStore
from tests.run_store.stores import FaultyStore


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def datasets(tmp_path: Path, store: MemoryObjectStore) -> DatasetStore:
    return DatasetStore(store, scratch=tmp_path, max_dataset_bytes=2**20)


def of_a_run(datasets: DatasetStore, run_id: str = "") -> tuple[RunDatasets, list[str]]:
    """The datasets of a run, and a list that gets longer with each report of what may be left."""
    reports: list[str] = []
    return RunDatasets(datasets, run_id or new_id(), lambda: reports.append("left")), reports


def test_a_run_removes_what_it_has_stored(datasets: DatasetStore) -> None:
    run_id = new_id()
    of_run, reports = of_a_run(datasets, run_id)
    dataset_id = of_run.add({"data": np.ones(3)}).id
    assert tag_of(dataset_id) == tag_for(run_id)
    of_run.delete(dataset_id)
    with pytest.raises(DatasetNotFoundError):
        datasets.info(dataset_id)
    assert reports == []


def test_a_run_removes_no_input(datasets: DatasetStore) -> None:
    """Uploaded, or made by another run: it may be among the outputs of an attempt that does not count."""
    uploaded = datasets.add({"data": np.ones(3)}).id
    made = of_a_run(datasets)[0].add({"data": np.ones(3)}).id
    of_run, _ = of_a_run(datasets)
    for dataset_id in (uploaded, made):
        of_run.delete(dataset_id)
        assert datasets.info(dataset_id)


@pytest.mark.parametrize("what", ["add", "delete"])
def test_what_may_be_left_is_reported(datasets: DatasetStore, store: FaultyStore, what: str) -> None:
    """A put that was not answered may be applied, and what cannot be removed stays."""
    of_run, reports = of_a_run(datasets)
    argument: Any = {"data": np.ones(3)}
    if what == "delete":
        argument = of_run.add(argument).id
    store.down = True
    with pytest.raises(StoreUnavailableError):
        getattr(of_run, what)(argument)
    assert reports == ["left"]
