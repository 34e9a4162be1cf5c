"""Wire models of runs and their logs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field

from t3d_server.models.base import Device, Model

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class RunStatus(StrEnum):
    """Where a run is: PENDING -> RUNNING -> COMPLETED | FAILED | CANCELLED."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether the run will not change any more."""
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


MAX_ARGS = 1000
"""Most args of a run."""


class RunRequest(Model):
    """What a client asks for when it submits a run.

    Attributes:
        input_dataset_ids: datasets to work on, in order.
        args: values of parameters; the others take their defaults.
        device: where to run; the algorithm's default where None.
        version: which version; the current one where None.
        timeout_s: longest time an attempt may take, the queue not counted; the algorithm's or the server's limit where
            None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_dataset_ids: list[str] = Field(max_length=10_000)
    args: dict[str, Any] = Field(default={}, max_length=MAX_ARGS)
    device: Device | None = None
    version: str | None = None
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)


class TolerantRunRequest(RunRequest):
    """A request whose unknown args are left out, with a warning in the run's log, where others are refused."""


class RunFailure(Model):
    """Why a run has no result.

    Attributes:
        code: `algorithm_error`, `cancelled`, `timeout`, `attempts_exhausted` or a problem code.
        type: class name of the exception.
        message: its message.
        traceback: the traceback in the author's code, "" where none of it was involved.
    """

    code: str
    type: str
    message: str
    traceback: str = ""


class Attempt(Model):
    """One try at a run.

    Attributes:
        number: 1 for the first one.
        replica: name of the Ray actor that worked on it.
        started_at: when it began.
        ended_at: when its end was noticed.
        outcome: how it ended; None while it goes on. `lost`: its replica died. `killed`: its replica was stopped,
            because the run had been told to stop and did not.
        reason: why it was lost.
        charged: whether it counts towards the bound on attempts; not where the server itself ended the replica, or
            its node was told to stop.
    """

    number: int
    replica: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["completed", "failed", "cancelled", "lost", "killed"] | None = None
    reason: str = ""
    charged: bool = True


class Run(Model):
    """One execution of one algorithm version on a list of datasets.

    Attributes:
        id: UUID version 7.
        algorithm: the algorithm's name.
        version: the version that was resolved when the run was accepted.
        device: what the client asked for, None where it left that open.
        resolved_device: where it runs.
        status: where it is.
        cancel_requested: whether its cancellation was asked for; while it is RUNNING, it stops at its next call of the
            server, or soon by force.
        progress: 0 to 1; 1 once it has ended, whichever way.
        message: the latest message of its log that is the algorithm's.
        queue_position: runs of the same version on the same device ahead of it, 0 for the next one; None unless it
            waits.
        input_dataset_ids: what it works on.
        output_dataset_ids: the datasets that are its result; empty unless COMPLETED.
        returned: what the algorithm returned, in order, if some of it is text and no dataset; else empty.
        args: the args with all defaults filled in.
        timeout_s: longest time an attempt may take, from `started_at`.
        created_at: when it was accepted.
        started_at: when its latest attempt began.
        ended_at: when it ended.
        error: why it has no result.
        attempts: attempts begun.
        attempt_history: those of them that are known, oldest first.
    """

    id: str
    algorithm: str
    version: str
    device: Device | None = None
    resolved_device: Device
    status: RunStatus = RunStatus.PENDING
    cancel_requested: bool = False
    progress: float = 0.0
    message: str = ""
    queue_position: int | None = None
    input_dataset_ids: list[str]
    output_dataset_ids: list[str] = []
    returned: list[str] = []
    args: dict[str, Any] = {}
    timeout_s: float | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: RunFailure | None = None
    attempts: int = 0
    attempt_history: list[Attempt] = []


class LogLine(Model):
    """One line of a run's log."""

    time: datetime
    level: LogLevel
    message: str


class RunNews(Model):
    """A run, and the lines of its log that are new."""

    run: Run
    lines: list[LogLine]
