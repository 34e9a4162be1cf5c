"""What clients know of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from t3d_server.models import Run

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Outcome(NamedTuple):
    """How a run has ended, as a client was answered; it must not change."""

    status: str
    outputs: tuple[str, ...]
    code: str
    ended_at: object


def outcome_of(run: Run) -> Outcome:
    """How a run has ended."""
    return Outcome(run.status, tuple(run.output_dataset_ids), run.error.code if run.error else "", run.ended_at)


@dataclass(eq=False)
class Submitted:
    """A run as its client knows it.

    Attributes:
        algorithm: what was to run.
        cluster: where it was submitted.
        spec: what the author's code does.
        key: the idempotency key; None without one.
        inputs: the input datasets.
        sent_s: when it was first sent; without a key, when it was last.
        id: its id, once it is known.
        accepted_s: when the client got the id; -1 before.
        outcome: how it has ended, once the client knows.
        outcome_s: since when it knows.
        outcome_from: from which cluster it knows.
        cancel_sent_s: when the client first sent a cancellation; -1 before.
        cancel_answered_s: when the client got an answer to it; -1 before.
        events: ids and messages of the log lines that its follower has seen.
        was_followed: whether the follower has seen its end.
    """

    algorithm: str
    cluster: Cluster
    spec: dict[str, Any]
    key: str | None
    inputs: list[str]
    sent_s: float
    id: str = ""
    accepted_s: float = -1.0
    outcome: Outcome | None = None
    outcome_s: float = 0.0
    outcome_from: Cluster | None = None
    cancel_sent_s: float = -1.0
    cancel_answered_s: float = -1.0
    events: list[tuple[int, str]] = field(default_factory=list)
    was_followed: bool = False
