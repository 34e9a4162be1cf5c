"""What is left of a run that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t3d_server.algorithm_utils.io_schemas import GenericSchema
from t3d_server.datasets.store import DatasetStore
from t3d_server.execution.context import RunContext
from t3d_server.models import DatasetInfo
from t3d_server.storage.memory import MemoryObjectStore


class Silent:
    """A listener."""

    def cancelled(self) -> bool:
        return False


def test_a_dataset_is_removed_that_a_thread_posts_while_its_run_ends(tmp_path: Path) -> None:
    class Datasets(DatasetStore):
        def add(self, values: Any, **options: Any) -> DatasetInfo:
            context.close()
            return super().add(values, **options)

    store = MemoryObjectStore()
    listener: Any = Silent()
    package: Any = None
    context = RunContext("run", package, Datasets(store, scratch=tmp_path, max_dataset_bytes=10_000), listener)
    with pytest.raises(RuntimeError, match="has ended"):
        context.post([{"data": np.zeros(1)}], GenericSchema)
    assert list(store.list("datasets/")) == []
