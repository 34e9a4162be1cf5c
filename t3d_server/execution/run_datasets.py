"""The datasets as one run uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import tag_for, tag_of
from t3d_server.models import DatasetInfo


class TaggingStore(Protocol):
    """Stores datasets under tagged ids."""

    def read(self, dataset_id: str) -> dict[str, Any]:
        """All keys of a dataset."""

    def add(self, values: dict[str, Any], *, tag: str | None = None) -> DatasetInfo:
        """Store a dataset."""

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset."""


class RunDatasets:
    """The datasets as one run uses them: ids of its outputs carry its tag, by which they are found if a replica dies.

    Args:
        datasets: the datasets.
        run_id: the run.
        leftovers: is called, in any thread, where a dataset may stay that nobody knows of: it could not be removed, or
            the store did not answer when it was stored.
    """

    def __init__(self, datasets: TaggingStore, run_id: str, leftovers: Callable[[], None]) -> None:
        self._datasets = datasets
        self._tag = tag_for(run_id)
        self._leftovers = leftovers
        self.read = datasets.read

    def add(self, values: dict[str, Any]) -> DatasetInfo:
        """Store a dataset."""
        try:
            return self._datasets.add(values, tag=self._tag)
        except StoreUnavailableError:
            self._leftovers()
            raise

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset that this run has stored; any other stays, such as an input that is among the outputs."""
        if tag_of(dataset_id) != self._tag:
            return
        try:
            self._datasets.delete(dataset_id)
        except StoreUnavailableError:
            self._leftovers()
            raise
