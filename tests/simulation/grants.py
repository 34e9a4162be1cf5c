"""Which attempts were granted, which have begun, and what their authors have logged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from t3d_server.models import Run
from t3d_server.runs.interface import AttemptKey
from tests.simulation.clocks import BASE
from tests.simulation.processes import Process

if TYPE_CHECKING:
    from tests.simulation.world import World


class Grants:
    """Checks grants.

    Args:
        world: the simulation.

    Attributes:
        attempts: the attempts that have begun, by run.
        lines: what their authors have logged.
    """

    def __init__(self, world: World) -> None:
        self.attempts: dict[str, list[AttemptKey]] = defaultdict(list)
        self.lines: dict[AttemptKey, list[str]] = defaultdict(list)
        self._world = world
        self._granted: dict[tuple[str, str, int], str] = {}

    def granted(self, process: Process, writer: str, run: Run, replica: str, waiting: Collection[Run]) -> None:
        """A coordinator has given a run to a replica, perhaps once more.

        Args:
            process: the coordinator's process.
            writer: its id in the log, which is another one each time that it joins.
            run: the run.
            replica: the replica.
            waiting: the runs that wait in the same queue.
        """
        findings = self._world.findings
        name = (writer, run.id, run.attempts)
        if name in self._granted:
            if self._granted[name] != replica:
                findings.violation("granted-twice", f"{run.id} attempt {run.attempts} by {process.name}")
            return
        self._granted[name] = replica
        self._world.trace("grant", f"{run.id[-6:]} attempt {run.attempts} to {replica[-8:]} by {process.name}")
        if run.id in self._world.record.ended and run.id not in self._world.record.state.open:
            findings.violation("ended-begins", f"{run.id} has ended, and attempt {run.attempts} is granted")
        known = self._world.observed.runs.get(run.id)
        if known is None or run.started_at is None:
            return
        began_s = (run.started_at - BASE).total_seconds() - process.skew_s
        if 0 <= known.cancel_answered_s < began_s:
            text = f"{run.id}: answered at {known.cancel_answered_s:.3f}, attempt {run.attempts} at {began_s:.3f}"
            findings.violation("cancelled-begins", f"{text} by {process.name}")
        if run.attempts == 1 and known.key is None:
            for other in waiting:
                first = self._world.observed.runs.get(other.id)
                if (
                    first is not None
                    and first.cluster is known.cluster
                    and first.cluster.id == process.site
                    and first.key is None
                    and other.attempts == 0
                    and first.accepted_s < known.sent_s
                ):
                    findings.violation("order", f"{run.id} begins before {first.id}, which was accepted before")

    def began(self, attempt: AttemptKey) -> None:
        """The author's code begins."""
        self.attempts[attempt.run_id].append(attempt)
        self._world.trace("author", f"{attempt.run_id[-6:]} attempt {attempt.number} begins on {attempt.replica[-8:]}")
        self._world.observed.began(attempt.run_id)

    def logged(self, attempt: AttemptKey, text: str) -> None:
        """The author's code logs a line."""
        self.lines[attempt].append(text)
