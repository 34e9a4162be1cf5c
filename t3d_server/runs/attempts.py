"""Attempts at runs: what tells them apart, how their outputs are found, and what becomes of their history."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from t3d_server.ids import tag_for, tag_of
from t3d_server.models import Attempt, DatasetInfo, Run, RunStatus


class AttemptKey(NamedTuple):
    """Tells an attempt from all others.

    The replica belongs to it: a coordinator that was killed before it had recorded an attempt gives the same number
    to the next one.
    """

    run_id: str
    number: int
    replica: str


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
    """

    def __init__(self, datasets: TaggingStore, run_id: str) -> None:
        self._datasets = datasets
        self._tag = tag_for(run_id)
        self.read = datasets.read

    def add(self, values: dict[str, Any]) -> DatasetInfo:
        """Store a dataset."""
        return self._datasets.add(values, tag=self._tag)

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset that this run has stored; any other stays, such as an input that is among the outputs."""
        if tag_of(dataset_id) == self._tag:
            self._datasets.delete(dataset_id)


def latest(run: Run) -> AttemptKey | None:
    """The latest attempt at a run that is known."""
    if not run.attempt_history:
        return None
    attempt = run.attempt_history[-1]
    return AttemptKey(run.id, attempt.number, attempt.replica)


def begun(run: Run, number: int, replica: str, now: datetime) -> Run:
    """The run with another attempt."""
    attempt = Attempt(number=number, replica=replica, started_at=now)
    return run.model_copy(
        update={
            "status": RunStatus.RUNNING,
            "started_at": now,
            "attempts": number,
            "attempt_history": [*run.attempt_history, attempt],
        }
    )


def closed(
    run: Run,
    outcome: Literal["completed", "failed", "cancelled", "lost", "killed"],
    now: datetime,
    **details: Any,
) -> Run:
    """The run with its latest attempt ended, unless it has none that goes on."""
    if not run.attempt_history or run.attempt_history[-1].outcome is not None:
        return run
    *earlier, attempt = run.attempt_history
    attempt = attempt.model_copy(update={"outcome": outcome, "ended_at": now, **details})
    return run.model_copy(update={"attempt_history": [*earlier, attempt]})


def charged(run: Run) -> int:
    """How many lost attempts count towards the bound."""
    return sum(attempt.outcome == "lost" and attempt.charged for attempt in run.attempt_history)


def was_broken_off(run: Run) -> bool:
    """Whether a replica ended in an attempt, which may have left outputs."""
    return any(attempt.outcome in ("lost", "killed") for attempt in run.attempt_history)
