"""What clients are answered, and whether that may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from t3d_server.errors import T3dError
from t3d_server.models import Run
from tests.simulation.submitted import Submitted, outcome_of

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

SETTLED_S = 20.0
"""So long after the last fault all clusters know what is on record."""
LAG_S = 8.0
"""What one cluster has put on record, others know after that."""
KEPT_S = 25.0
"""What expires is there for so long at least."""


class Observed:
    """Checks answers.

    Args:
        world: the simulation.

    Attributes:
        runs: the runs that clients know, by id.
    """

    def __init__(self, world: World) -> None:
        self.runs: dict[str, Submitted] = {}
        self._world = world
        self._findings = world.findings
        self._by_key: dict[str, str] = {}
        self._refused: dict[str, tuple[Cluster, float]] = {}
        self._removed_s: dict[tuple[str, str], float] = {}

    def accepted(self, run: Submitted, answer: Run) -> None:
        """A submission is answered with a run."""
        world = self._world
        run.id, run.accepted_s = answer.id, world.loop.now_s
        world.trace("client", f"{run.id[-6:]} ({run.algorithm}, {run.key}) accepted by {run.cluster.name}: {run.spec}")
        if run.key is not None and self._by_key.setdefault(run.key, answer.id) != answer.id:
            self._findings.violation("key", f"{run.key} stands for {self._by_key[run.key]} and {answer.id}")
        if answer.id in self.runs:
            self._findings.violation("id", f"{answer.id} was given to two submissions")
        self.runs[answer.id] = run
        if answer.id not in world.record.accepted or answer.id in world.record.withdrawn:
            self._findings.violation("not-recorded", f"{answer.id} is accepted, and is not on record")
        removed_s = self._removed_s.get((run.cluster.name, run.algorithm))
        if removed_s is not None and removed_s < run.sent_s:
            self._findings.violation("removed-version", f"{answer.id} is accepted for a version that was removed")

    def unavailable(self, run_id: str, cluster: Cluster, sent_s: float) -> None:
        """A submission without a key is answered with 503: it must not be executed."""
        self._refused[run_id] = cluster, sent_s
        if self._world.grants.attempts.get(run_id):
            self.began(run_id)

    def began(self, run_id: str) -> None:
        """An attempt begins."""
        if run_id in self._refused:
            cluster, sent_s = self._refused[run_id]
            if not self._world.record.is_disturbed(cluster.id, sent_s):
                self._findings.violation("refused-begins", f"{run_id} was answered with 503 by {cluster.name}")

    def refused(self, run: Submitted, error: T3dError) -> None:
        """A submission that has no fault is refused."""
        self._findings.violation("refused", f"{run.algorithm} with {run.inputs}: {error!r}")

    def saw(self, run: Submitted, answer: Run, cluster: Cluster, how: str, asked_s: float) -> None:
        """A client is answered how a run is."""
        world, findings = self._world, self._findings
        if answer.id != run.id:
            findings.violation("other-run", f"asked for {run.id}, got {answer.id}")
            return
        world.trace("client", f"{run.id[-6:]} is {answer.status} by {how} at {cluster.name}")
        if answer.status.ended:
            outcome = outcome_of(answer)
            if run.outcome is not None and run.outcome != outcome:
                text = f"{run.id}: {run.outcome} before, now {outcome} by {how} at {cluster.name}"
                findings.violation("outcome-changed", text)
            if run.id not in world.record.ended:
                findings.violation("ended-early", f"{run.id} is {answer.status} by {how}, and is not on record")
            elif outcome_of(world.record.ended[run.id].run) != outcome:
                findings.violation("outcome-differs", f"{run.id} is {outcome} by {how} at {cluster.name}")
            if run.outcome is None:
                run.outcome, run.outcome_s, run.outcome_from = outcome, world.loop.now_s, cluster
        elif run.outcome is not None and asked_s > run.outcome_s:
            is_settled = asked_s > max(world.faults_end_s + SETTLED_S, run.outcome_s + LAG_S)
            if run.outcome_from is cluster or is_settled:
                text = f"{run.id} was {run.outcome.status} at {run.outcome_s:.3f}, and is {answer.status}"
                findings.violation("ended-is-live", f"{text} by {how} at {cluster.name}")
            else:
                findings.count("ended shown as live by another cluster")

    def cancelled(self, run: Submitted, answer: Run) -> None:
        """A client is answered that a run is to be cancelled, or has ended."""
        now_s = self._world.loop.now_s
        if run.cancel_answered_s < 0:
            run.cancel_answered_s = now_s
            self._world.trace("client", f"{run.id[-6:]} cancel is answered with {answer.status}")
        if run.id not in self._world.record.cancelled_at_s:
            self._findings.violation("cancel-early", f"{run.id}: its cancellation is answered, and not on record")

    def unknown(self, run: Submitted, cluster: Cluster, how: str, error: T3dError) -> None:
        """A client is answered that there is no such run."""
        if self._world.plan.expires and self._world.loop.now_s - run.sent_s > KEPT_S:
            return
        self._findings.violation("unknown-run", f"{run.id}: {how} at {cluster.name}: {error}")

    def listed(self, cluster: Cluster, expected: Collection[str], found: Sequence[Run], since_s: float) -> None:
        """A client has listed all runs."""
        counts = Counter(run.id for run in found)
        if twice := [run_id for run_id, count in counts.items() if count > 1]:
            self._findings.violation("listed-twice", f"at {cluster.name}: {twice}")
        if self._world.record.is_disturbed(cluster.id, since_s):
            return  # its coordinator has changed in between
        for run_id in sorted(set(expected) - set(counts)):
            self._findings.violation("not-listed", f"{run_id} by {cluster.name}, since {since_s:.3f}")
        ids = [run.id for run in found]
        if ids != sorted(ids, reverse=True):
            self._findings.violation("list-order", f"at {cluster.name}: {ids}")

    def expected_in_list(self, cluster: Cluster) -> list[str]:
        """Runs that a list of a cluster has to have that begins now."""
        if self._world.plan.expires:
            return []
        is_settled = self._world.loop.now_s > self._world.faults_end_s + SETTLED_S
        return [run.id for run in self.runs.values() if is_settled or run.cluster is cluster]

    def followed(self, run: Submitted, number: int, message: str) -> None:
        """A follower gets a line of the log."""
        if run.events and number <= run.events[-1][0]:
            self._findings.violation("event-ids", f"{run.id}: event {number} after {run.events[-1][0]}")
        if message.startswith("line ") and any(each == message for _, each in run.events):
            self._findings.violation("line-twice", f"{run.id}: {message!r}")
        self._world.trace("follow", f"{run.id[-6:]} {number} {message}")
        run.events.append((number, message))

    def version_removed(self, cluster: Cluster, algorithm: str) -> None:
        """The removal of a version is answered."""
        self._removed_s[cluster.name, algorithm] = self._world.loop.now_s
        if len(self._world.clusters) > 1:
            return
        for run in self.runs.values():
            if run.algorithm == algorithm and run.id not in self._world.record.ended:
                self._findings.violation("removed-with-run", f"{run.id} has not ended, and its version is removed")
