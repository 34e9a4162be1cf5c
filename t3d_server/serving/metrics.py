"""The server's own series at Ray's endpoint for Prometheus; docs/operations.md lists them."""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from t3d_server.models import Run, RunStatus

BOUNDARIES_S = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0]
ALGORITHM = ("algorithm",)


class RunMetrics:
    """Counts the runs of this cluster; only names of algorithms, states and codes of errors become labels."""

    def __init__(self) -> None:
        self._live = {
            RunStatus.PENDING: Gauge("t3d_runs_waiting", "Runs that wait for a replica.", ALGORITHM),
            RunStatus.RUNNING: Gauge("t3d_runs_running", "Runs that a replica works on.", ALGORITHM),
        }
        self._ended = Counter("t3d_runs_ended", "Runs that have ended.", ("algorithm", "status", "code"))
        self._run_s = Histogram(
            "t3d_run_seconds", "Time from the beginning of a run's last attempt to its end.", BOUNDARIES_S, ALGORITHM
        )
        self._queue_s = Histogram(
            "t3d_run_queue_seconds", "Time from the acceptance of a run to its first attempt.", BOUNDARIES_S, ALGORITHM
        )
        self._seen: set[str] = set()

    def count(self, live: Mapping[tuple[str, RunStatus], int]) -> None:
        """Set how many runs of each algorithm are in each state."""
        self._seen |= {algorithm for algorithm, _ in live}
        for status, gauge in self._live.items():
            for algorithm in self._seen:
                gauge.set(live.get((algorithm, status), 0), {"algorithm": algorithm})

    def ended(self, run: Run) -> None:
        """A run has ended."""
        self._seen.add(run.algorithm)
        tags = {"algorithm": run.algorithm}
        code = run.error.code if run.error is not None else ""
        self._ended.inc(tags={**tags, "status": run.status, "code": code})
        if run.attempt_history:
            self._queue_s.observe((run.attempt_history[0].started_at - run.created_at).total_seconds(), tags)
        if run.started_at is not None and run.ended_at is not None:
            self._run_s.observe((run.ended_at - run.started_at).total_seconds(), tags)
