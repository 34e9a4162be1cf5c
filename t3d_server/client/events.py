"""How a run is followed: what is heard of it, and the asking for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from t3d_server.models import Run, RunStatus, utc_now

_POLL_S = 0.25


@dataclass(frozen=True)
class RunEvent:
    """What was heard of a run; events that differ in nothing but their time are equal.

    Attributes:
        run_id: the run.
        status: where it is.
        progress: 0 to 1; 1 once it has ended, whichever way.
        message: the latest log message.
        queue_position: runs ahead of it, 0 for the next one; None unless it waits.
        time: when this was so, UTC.
    """

    run_id: str
    status: RunStatus
    progress: float
    message: str
    queue_position: int | None
    time: datetime = field(compare=False)


def events_of(run: Run, refresh: Callable[[float], Run]) -> Iterator[RunEvent]:
    """What is heard of a run: how it is, then every change; ends with the ended run.

    Args:
        run: the run as it was last heard of.
        refresh: asks for the run; returns once it has ended, or after so many seconds.
    """
    yield (seen := _event(run))
    while not run.status.ended:
        run = poll(refresh, _POLL_S)
        if (event := _event(run)) != seen:
            yield (seen := event)


def poll(refresh: Callable[[float], Run], wait_s: float) -> Run:
    """The run once it has ended, or after some seconds, at most `wait_s`."""
    began = time.monotonic()
    run = refresh(wait_s)
    # A server that is just starting again answers at once: do not ask it without a pause.
    if not run.status.ended:
        time.sleep(max(0.0, min(wait_s, _POLL_S) - (time.monotonic() - began)))
    return run


def _event(run: Run) -> RunEvent:
    now = run.ended_at or utc_now()
    return RunEvent(run.id, run.status, run.progress, run.message, run.queue_position, now)
