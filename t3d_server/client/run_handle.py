"""`RunHandle`: a submitted run, to follow, wait for and cancel."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from t3d_server.client.bodies import Progress
from t3d_server.client.events import RunEvent
from t3d_server.errors import AlgorithmError, InvalidRequestError, ServerUnavailableError, StoreUnavailableError
from t3d_server.models import LogLine, Run, RunStatus

if TYPE_CHECKING:
    from t3d_server.client.runs import Runs

LONG_POLL_S = 30.0
_PAUSE_S = 0.25


class RunHandle:
    """A run that was submitted; it goes on without this object.

    Attributes:
        run: the latest known state of the run.
    """

    def __init__(self, client: Runs, run: Run) -> None:
        self._client = client
        self.run = run

    @property
    def id(self) -> str:
        """Id of the run."""
        return self.run.id

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.run.algorithm} {self.run.version}: {self.run.status}>"

    def refresh(self, wait_s: float = 0.0) -> Run:
        """Ask for the run again; returns once it has ended, or after `wait_s` seconds."""
        if not self.run.status.ended:
            self.run = self._client.get_run(self.id, wait_s)
        return self.run

    def events(self) -> Generator[RunEvent]:
        """The events of the run: its state with the log so far, then each change and each new line of the log.

        Ends with the run. Changes that follow each other within a tenth of a second may be one event; no line of
        the log is missing, even if the connection breaks off in between.

        Raises:
            ServerUnavailableError: the server has been away for the client's `away_s`; the run is not lost.
        """
        with kept(self.id):
            for run, event in self._client.follow(self.id):
                self.run = run
                yield event

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait for the end of the run, with or without success.

        Args:
            timeout_s: how long, in seconds; for ever where None. A server that is away is waited for beyond that.

        Raises:
            TimeoutError: it has not ended by then; it goes on.
            ServerUnavailableError: as `events`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.run.status.ended:
            left_s = LONG_POLL_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"run {self.id} is {self.run.status} after {timeout_s:g} s; it goes on")
            self._poll(min(left_s, LONG_POLL_S))
        return self.run

    def _poll(self, wait_s: float) -> None:
        began = time.monotonic()
        with kept(self.id):
            self.refresh(wait_s)
        # A server that is starting answers at once: do not ask it without a pause.
        if not self.run.status.ended:
            time.sleep(max(0.0, min(wait_s, _PAUSE_S) - (time.monotonic() - began)))

    def output_dataset_ids(self, timeout_s: float | None = None) -> list[str]:
        """Wait for the end of the run; ids of its output datasets.

        Raises:
            AlgorithmError: the run failed or was cancelled, see `run_code`; `traceback` is that of the author's
                code.
            TimeoutError: as `wait`.
        """
        return outputs_of(self.wait(timeout_s))

    def result(self, timeout_s: float | None = None, *, on_progress: Progress | None = None) -> list[dict[str, Any]]:
        """Wait for the end of the run; its output datasets, a dictionary for each.

        Args:
            timeout_s: how long to wait for the end, in seconds.
            on_progress: as `Client.fetch`.

        Returns:
            As `Client.fetch` of a list.

        Raises:
            AlgorithmError, TimeoutError: as `output_dataset_ids`.
            ServerUnavailableError: as `events`.
        """
        outputs = self.output_dataset_ids(timeout_s)
        with kept(self.id):
            return self._client.fetch(outputs, on_progress=on_progress)

    def cancel(self) -> Run:
        """Cancel the run: at once while it waits, else when its code next reports; an ended one stays as it is."""
        self.run = self._client.cancel(self.id)
        return self.run

    def log(self) -> list[LogLine]:
        """The log so far."""
        return self._client.log(self.id)


@contextmanager
def kept(run_id: str) -> Iterator[None]:
    """If server or store are away for too long, the error explains how to get the results later."""
    try:
        yield
    except (ServerUnavailableError, StoreUnavailableError) as error:
        raise type(error)(
            f"{error.message}\nRun {run_id} is not lost, it goes on with the server: `t3d results {run_id}` waits for "
            f"it and fetches its results; in Python, `Client().handle({run_id!r}).result()`."
        ) from error


def outputs_of(run: Run, *, of_one: bool = False) -> list[str]:
    """Ids of the output datasets of an ended run.

    Args:
        run: the run.
        of_one: whether its caller gave one input, and so expects one dataset.

    Raises:
        AlgorithmError: it has no result.
        InvalidRequestError: not one dataset; the message has their ids.
    """
    if run.status is not RunStatus.COMPLETED:
        why = f": {run.error.type}: {run.error.message}" if run.error else ""
        raise AlgorithmError(
            f"{run.algorithm} {run.version} {run.status.lower()}{why}",
            traceback=(run.error and run.error.traceback) or None,
            run_id=run.id,
            run_code=run.error.code if run.error else None,
        )
    if of_one and len(run.output_dataset_ids) != 1:
        raise InvalidRequestError(
            f"{run.algorithm} made {len(run.output_dataset_ids)} datasets of one input: "
            f"{', '.join(run.output_dataset_ids)}. Give the input in a list to get a list of results."
        )
    return run.output_dataset_ids
