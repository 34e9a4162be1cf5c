"""The datasets of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import DatasetNotFoundError
from t3d_server.ids import new_id
from t3d_server.runs.attempts import RunDatasets
from t3d_server.storage.memory import MemoryObjectStore


@pytest.fixture
def datasets(tmp_path: Path) -> DatasetStore:
    return DatasetStore(MemoryObjectStore(), scratch=tmp_path, max_dataset_bytes=2**20)


def test_a_run_removes_what_it_has_stored(datasets: DatasetStore) -> None:
    of_run = RunDatasets(datasets, new_id())
    dataset_id = of_run.add({"data": np.ones(3)}).id
    of_run.delete(dataset_id)
    with pytest.raises(DatasetNotFoundError):
        datasets.info(dataset_id)


def test_a_run_removes_no_input(datasets: DatasetStore) -> None:
    """Uploaded, or made by another run: it may be among the outputs of an attempt that does not count."""
    uploaded = datasets.add({"data": np.ones(3)}).id
    made = RunDatasets(datasets, new_id()).add({"data": np.ones(3)}).id
    of_run = RunDatasets(datasets, new_id())
    for dataset_id in (uploaded, made):
        of_run.delete(dataset_id)
        assert datasets.info(dataset_id)
