"""`RunHandle`: a submitted run, to follow, wait for and cancel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from t3d_server.errors import AlgorithmError
from t3d_server.models import LogLine, Run, RunStatus

LONG_POLL_S = 30.0
EVENT_POLL_S = 0.25


class RunCalls(Protocol):
    """What a handle asks of its client."""

    def get_run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run; returns once it has ended, or after `wait_s` seconds."""

    def fetch(self, dataset_id: str) -> dict[str, Any]:
        """Values of a dataset by key."""

    def cancel(self, run_id: str) -> Run:
        """Cancel a run."""

    def log(self, run_id: str) -> list[LogLine]:
        """The log of a run, so far."""


class RunHandle:
    """A run that was submitted.

    Attributes:
        run: the run as it was last heard of.
    """

    def __init__(self, client: RunCalls, run: Run) -> None:
        self._client = client
        self.run = run

    @property
    def id(self) -> str:
        """Id of the run."""
        return self.run.id

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.run.algorithm} {self.run.version}: {self.run.status}>"

    def refresh(self, wait_s: float = 0.0) -> Run:
        """Ask for the run anew; returns once it has ended, or after `wait_s` seconds."""
        if not self.run.status.ended:
            self.run = self._client.get_run(self.id, wait_s)
        return self.run

    def events(self) -> Iterator[Run]:
        """The run each time it has changed, `progress` and `message` among others; ends with the ended run."""
        yield (seen := self.run)
        while not self.run.status.ended:
            if self._poll(EVENT_POLL_S) != seen:
                yield (seen := self.run)

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait for the end of the run.

        Raises:
            TimeoutError: it has not ended after `timeout_s` seconds; it goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.run.status.ended:
            left_s = LONG_POLL_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"run {self.id} is {self.run.status} after {timeout_s:g} s; it goes on")
            self._poll(min(left_s, LONG_POLL_S))
        return self.run

    def output_dataset_ids(self, timeout_s: float | None = None) -> list[str]:
        """Wait for the end of the run; ids of what it made.

        Raises:
            AlgorithmError: the run failed or was cancelled; `traceback` is that of the author's code.
            TimeoutError: as `wait`.
        """
        run = self.wait(timeout_s)
        if run.status is RunStatus.COMPLETED:
            return run.output_dataset_ids
        failure = run.error
        what = f"{run.algorithm} {run.version} {run.status.lower()}"
        if failure is None:
            raise AlgorithmError(what)
        error = AlgorithmError(f"{what}: {failure.type}: {failure.message}", traceback=failure.traceback or None)
        if failure.traceback:
            error.add_note(f"\nOn the server:\n{failure.traceback}")
        raise error

    def result(self, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """Wait for the end of the run; what it made, one dictionary for each dataset.

        Raises:
            AlgorithmError, TimeoutError: as `output_dataset_ids`.
        """
        return [self._client.fetch(dataset_id) for dataset_id in self.output_dataset_ids(timeout_s)]

    def cancel(self) -> Run:
        """Cancel the run; one that has ended stays as it is."""
        self.run = self._client.cancel(self.id)
        return self.run

    def log(self) -> list[LogLine]:
        """The log so far."""
        return self._client.log(self.id)

    def _poll(self, wait_s: float) -> Run:
        began = time.monotonic()
        run = self.refresh(wait_s)
        # A server that is just starting again answers at once: do not ask it without a pause.
        if not run.status.ended:
            time.sleep(max(0.0, min(wait_s, EVENT_POLL_S) - (time.monotonic() - began)))
        return run
