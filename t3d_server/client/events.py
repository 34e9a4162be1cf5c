"""How a run is followed: what is heard of it, from the server's events."""

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
    """What was heard of a run; events that differ in nothing but their time are equal.

    Attributes:
        run_id: the run.
        status: where it is.
        progress: 0 to 1; 1 once it has ended, whichever way.
        message: the latest log message.
        queue_position: runs ahead of it, 0 for the next one; None unless it waits.
        lines: the lines of its log that are new.
        time: when it was so, UTC: when the run ended, else when this was heard; never before the event before.
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
        """What a run and new lines of its log tell, after an event of that time."""
        time = max(run.ended_at or utc_now(), after)  # the server's clock may be behind
        return cls(run.id, run.status, run.progress, run.message, run.queue_position, tuple(lines), time)


class ServerSentEvent(NamedTuple):
    """An event of a stream, as the HTML standard has it, section 9.2."""

    kind: str
    data: str
    id: str


def parsed(lines: Iterable[bytes], last_id: str) -> Iterator[ServerSentEvent]:
    """The events in the lines of a stream; what is unfinished at its end is dropped.

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


def followed(transport: Transport, path: str) -> Generator[tuple[Run, RunEvent]]:
    """A run and what is heard of it: how it is, with its log so far, then every change; ends with the ended run.

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
                heard = RunEvent.of(run, lines, time)
                time = heard.time
                yield run, heard
                lines = []
                if run.status.ended:
                    return
