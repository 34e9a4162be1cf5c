"""Follows runs by the events of the server."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from t3d_server.models import LogLine, Run, RunStatus, utc_now

if TYPE_CHECKING:
    from t3d_server.client.transport import Transport

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True)
class RunEvent:
    """A change of a run; events that differ only in their time are equal.

    Attributes:
        run_id: the run.
        status: its status.
        progress: 0 to 1; 1 once it has ended, whichever way.
        message: the latest log message.
        queue_position: runs ahead of it, 0 for the next one; None unless it waits.
        lines: the lines of its log that are new.
        time: UTC; when the run ended, else when the event was received; never earlier than the event before.
    """

    run_id: str
    status: RunStatus
    progress: float
    message: str
    queue_position: int | None
    lines: tuple[LogLine, ...]
    time: datetime = field(compare=False)

    @classmethod
    def of(cls, run: Run, lines: Iterable[LogLine], after: datetime) -> RunEvent:
        """The event of a run and new lines of its log; `after` is the time of the event before."""
        time = max(run.ended_at or utc_now(), after)  # the server's clock may be behind
        return cls(run.id, run.status, run.progress, run.message, run.queue_position, tuple(lines), time)


class ServerSentEvent(NamedTuple):
    """An event of a stream, by section 9.2 of the HTML standard."""

    kind: str
    data: str
    id: str


def parsed(lines: Iterable[bytes], last_id: str) -> Iterator[ServerSentEvent]:
    """The events in the lines of a stream; an incomplete event at the end is dropped.

    Args:
        lines: lines without their ends.
        last_id: id of the last event before.
    """
    kind, data = "", list[str]()
    for line in lines:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if line == b"":
            if data:
                yield ServerSentEvent(kind or "message", "\n".join(data), last_id)
            kind, data = "", []
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value


def run_events(transport: Transport, path: str) -> Generator[tuple[Run, RunEvent]]:
    """The states and events of a run: first its state with the log so far, then each change, up to its end.

    Args:
        transport: the connection to the server.
        path: path of the run's events.

    Raises:
        T3dError: as `Transport.events`.
    """
    lines: list[LogLine] = []
    time = datetime.min.replace(tzinfo=UTC)
    with closing(transport.events(path)) as events:
        for event in events:
            if event.kind == "log":
                lines.append(LogLine.model_validate_json(event.data))
            elif event.kind == "run":
                run = Run.model_validate_json(event.data)
                news = RunEvent.of(run, lines, time)
                time = news.time
                yield run, news
                lines = []
                if run.status.ended:
                    return
