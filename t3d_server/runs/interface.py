"""What the coordinator of runs does for routers and replicas, wherever it is: the one interface of `runs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from t3d_server.models import Device, LogLine, Model, Run, RunFailure, RunNews, RunRequest, RunStatus


class QueueName(NamedTuple):
    """Names the queue of the runs of one version on one device."""

    algorithm: str
    version: str
    device: Device


class AttemptKey(NamedTuple):
    """Tells an attempt from all others.

    The replica belongs to it: a coordinator that was killed before an attempt was on record gives the same number to
    the next one.
    """

    run_id: str
    number: int
    replica: str


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a run ended.

    Attributes:
        status: COMPLETED, FAILED or CANCELLED.
        output_dataset_ids: the datasets that are its result; empty unless COMPLETED.
        error: why it has no result.
        returned: what `postprocess` returned, in order, if some of it is text and no dataset; else empty.
        phase_times_s: how long each finished phase took.
        leftovers: whether datasets that it posted, and that are none of its outputs, may still be stored.
    """

    status: RunStatus
    output_dataset_ids: tuple[str, ...] = ()
    error: RunFailure | None = None
    returned: tuple[str, ...] = ()
    phase_times_s: dict[str, float] | None = None
    leftovers: bool = False


@dataclass(frozen=True)
class Lines:
    """New lines of the log of an attempt.

    Attributes:
        first: number of the first of them; the first line of an attempt has number 0.
        lines: the lines.
        complete: earlier ones that are missing are not kept any more.
    """

    first: int = 0
    lines: Sequence[LogLine] = ()
    complete: bool = False


@dataclass(frozen=True)
class ReportAnswer:
    """The answer to a report of a replica.

    Attributes:
        go_on: whether it is to go on with the run.
        resend_from: number of the line from which on it is to send the log again; None where all has come.
    """

    go_on: bool
    resend_from: int | None = None


@dataclass(frozen=True)
class Receipt:
    """The answer to an outcome that a replica has delivered.

    Attributes:
        counts: whether its outputs are those of the run; else it is to remove them.
        following: the run to work on next, if there is one.
        resend_from: the outcome was not taken: it is to be delivered again, with the log from this line on.
    """

    counts: bool
    following: Run | None
    resend_from: int | None = None


class RunList(Model):
    """Runs that the coordinator knows, newest first.

    Attributes:
        runs: the runs.
        more: whether there are older ones that it knows.
        snapshot_seq: ended runs that it does not know are in the pages of this snapshot.
    """

    runs: list[Run]
    more: bool
    snapshot_seq: int


class Runs(Protocol):
    """The runs of a cluster. All calls may be repeated with the same arguments."""

    async def submit(self, *, algorithm: str, request: RunRequest, run_id: str, key: str | None) -> Run:
        """Accept a run; from the moment this returns it will reach an end.

        Args:
            algorithm: what to run.
            request: how.
            run_id: a new id; submitting again under the same one gives the same run.
            key: chosen by the client; submitting the same again with it gives the same run, under another id too.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError: there is no such algorithm or version.
            InvalidRequestError, InvalidArgsError, DeviceNotSupportedError: see `accept`; or the key was used for
                another request.
            QueueFullError: as many runs wait as may.
            StoreUnavailableError: the run could not be recorded. Without a key it will not be executed; with one it
                may be, and submitting again gives it.
            ServerUnavailableError: another cluster takes over.
        """

    async def get(self, *, run_id: str, wait_s: float = 0.0) -> Run:
        """A run that is open or has ended lately, after waiting up to `wait_s` for its end.

        Raises:
            RunNotFoundError: it is neither.
        """

    async def news(self, *, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """What is new of a run: at once if there is anything, else as soon as there is.

        Args:
            run_id: its id.
            seen: the run as it is known.
            after: time of the last line of its log that is known.
            wait_s: longest time to wait, in seconds.

        Raises:
            RunNotFoundError: it neither is open nor has ended lately.
        """

    async def log(self, *, run_id: str) -> list[LogLine]:
        """The log so far of a run.

        Raises:
            RunNotFoundError: it neither is open nor has ended lately.
        """

    async def list(
        self, *, limit: int, before: str | None = None, algorithm: str | None = None, status: RunStatus | None = None
    ) -> RunList:
        """The newest runs that are open or have ended lately.

        Args:
            limit: most runs.
            before: only runs with smaller ids.
            algorithm: only runs of this one.
            status: only runs that are there.
        """

    async def cancel(self, *, run_id: str) -> Run:
        """Cancel a run: a queued one at once, a running one at its next call back or soon by force.

        One that has ended stays as it is. That it was cancelled is on record when this returns.

        Raises:
            RunNotFoundError: it neither is open nor has ended lately.
            StoreUnavailableError: that is not on record yet.
            ServerUnavailableError: another cluster has the run, or takes it over.
        """

    async def begin(self, *, call_id: str, replica: str) -> Run | None:
        """A replica that was called asks for a run.

        Args:
            call_id: the call.
            replica: name of the replica, by which it can be found and ended.

        Returns:
            The run, with the number of this attempt in `attempts`; None if there is nothing to do any more.
        """

    async def report(self, *, attempt: AttemptKey, progress: float | None, lines: Lines) -> ReportAnswer:
        """A replica reports how far an attempt is; so a coordinator that was started again learns of it, too."""

    async def finish(self, *, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: Lines) -> Receipt:
        """A replica delivers the outcome of an attempt with the last lines of its log, and asks for the next run.

        Returns once the outcome is on record.

        Raises:
            StoreUnavailableError, ServerUnavailableError: it is to be delivered again.
        """

    async def report_leftovers(self, *, run_id: str) -> None:
        """A replica could not remove datasets of a run that are none of its outputs.

        Raises:
            StoreUnavailableError: it is to be reported again.
        """

    async def load_failed(self, *, queue: QueueName, failure: RunFailure) -> None:
        """A replica could not load: what waits for it fails, unless another replica works."""
