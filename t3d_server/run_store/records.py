"""What the state of runs consists of, and why an event may not be at its place."""

from __future__ import annotations

from datetime import datetime

from t3d_server.models import LogLine, Model, Run


class StoredRun(Model):
    """A run with what is stored beside it.

    Attributes:
        run: the run.
        owner: the cluster that has it.
        key: hash of its idempotency key; "" without one.
        request_sha256: hash of what was asked for.
        lines: its log, where that is small; of one that goes on, what it began with.
        log: the object that has its log instead; "" where there is none.
    """

    run: Run
    owner: str = ""
    key: str = ""
    request_sha256: str = ""
    lines: list[LogLine] = []
    log: str = ""


class Member(Model):
    """A cluster that may write.

    Attributes:
        process: its coordinator's process, which alone writes for it.
        segment: the latest segment that it has written.
        left: it has stopped.
    """

    process: str
    segment: int
    left: bool = False


class Fence(Model):
    """Numbers at which a process may still try to write that must not: their segments are kept, so that it fails.

    Attributes:
        first: the first number.
        last: that of the segment from which on it must not.
        time: when that was written.
    """

    first: int
    last: int
    time: datetime


class Sweep(Model):
    """Datasets that attempts at a run may have left.

    Attributes:
        owner: the cluster that is to remove them.
        created_at: when the run was accepted: none is older.
        since: when the latest of them may have been stored.
        outputs: datasets that stay.
        replicas: where attempts were made that were lost: they may live on, out of reach.
    """

    owner: str
    created_at: datetime
    since: datetime
    outputs: list[str] = []
    replicas: list[str] = []


class NotOwnedError(Exception):
    """The run is not this cluster's, or has ended."""


class FencedError(Exception):
    """The process must not write for its cluster any more."""


class KeyHeldError(Exception):
    """A run was accepted with this idempotency key, or id, before.

    Attributes:
        run_id: that run; "" where it is in a page.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


class StaleError(Exception):
    """What the event is about has changed since it was made."""
