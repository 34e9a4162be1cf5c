"""The events that the log of runs consists of, and the segments that carry them.

A segment is one object: JSON lines, of which the first is its header and each other one an event.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from t3d_server.models import LogLine, Model, Run


class Header(Model):
    """Who wrote a segment.

    Attributes:
        cluster: id of the cluster.
        process: id of its coordinator's process.
        batch: another one for each segment, by which a writer knows its own.
        time: when it was written, by the writer's clock; only for readers.
    """

    cluster: str
    process: str
    batch: str
    time: datetime


class Joined(Model):
    """The process is the coordinator of its cluster from here on; earlier ones of the cluster write no more."""

    kind: Literal["joined"] = "joined"


class Left(Model):
    """The cluster stops: its runs may be taken over at once."""

    kind: Literal["left"] = "left"


class Claimed(Model):
    """The writer's cluster takes over the runs of another one, which writes no more."""

    kind: Literal["claimed"] = "claimed"
    cluster: str


class Accepted(Model):
    """A run is accepted.

    Attributes:
        run: the run.
        key: hash of its idempotency key; "" without one.
        request_sha256: hash of what was asked for.
        lines: what its log begins with.
    """

    kind: Literal["accepted"] = "accepted"
    run: Run
    key: str = ""
    request_sha256: str = ""
    lines: list[LogLine] = []


class Withdrawn(Model):
    """A run that was accepted, but whose client got an error instead of its id: it is as if it had never been."""

    kind: Literal["withdrawn"] = "withdrawn"
    run_id: str


UpdateCause = Literal["started", "requeued", "cancel requested", "logged"]


class Updated(Model):
    """A run has changed and goes on.

    Attributes:
        cause: what has happened.
        run: how it is now.
        log: the object that has its log so far; "" where there is none.
    """

    kind: Literal["updated"] = "updated"
    cause: UpdateCause
    run: Run
    log: str = ""


class Ended(Model):
    """A run has ended.

    Attributes:
        run: how.
        lines: its log, where that is small.
        log: the object that has its log, where that is not.
        leftovers: whether attempts may have left datasets that are none of its outputs.
    """

    kind: Literal["ended"] = "ended"
    run: Run
    lines: list[LogLine] = []
    log: str = ""
    leftovers: bool = False


class Leftovers(Model):
    """A process may have left datasets of a run that has ended, which are none of its outputs."""

    kind: Literal["leftovers"] = "leftovers"
    run: Run


class Swept(Model):
    """Datasets that attempts at these runs had left are removed, and no process is there that could add any.

    Attributes:
        run_ids: the runs.
        before: the datasets were stored before.
    """

    kind: Literal["swept"] = "swept"
    run_ids: list[str]
    before: datetime


class PageInfo(Model):
    """What the directory has of a page of ended runs.

    Attributes:
        name: of its object.
        first: the smallest id in it.
        last: the greatest.
        index_bytes: length of its index, with which it begins.
        counts: how many runs it has of each "<algorithm> <status>".
        keys: fingerprints of their idempotency keys in base64, 8 bytes each; "" once these have expired.
        logs: whether it has logs.
    """

    name: str
    first: str
    last: str
    index_bytes: int
    counts: dict[str, int]
    keys: str = ""
    logs: bool = False


class Paged(Model):
    """Ended runs are in a page from here on.

    Attributes:
        page: the page.
        moved: ids of the runs, where they were in the state until now.
        replaces: the page in which they were until now; "" if they were in none.
        keys_until: idempotency keys of runs that were accepted before have expired.
        imports: where the runs are of the former layout, how many such pages and runs came before; with another number
            it is late.
    """

    kind: Literal["paged"] = "paged"
    page: PageInfo
    moved: list[str] = []
    replaces: str = ""
    keys_until: datetime | None = None
    imports: int | None = None


class Imported(Model):
    """A run of the former layout is in the state from here on; if it has not ended, the cluster goes on with it.

    Attributes:
        number: how many such pages and runs came before; with another number it is late.
        run: the run.
        key: hash of its idempotency key; "" without one.
        request_sha256: hash of what was asked for.
        lines: its log, where that is small.
        log: the object that has its log, where that is not.
    """

    kind: Literal["imported"] = "imported"
    number: int
    run: Run
    key: str = ""
    request_sha256: str = ""
    lines: list[LogLine] = []
    log: str = ""


class Expired(Model):
    """What is not kept any more is forgotten; the objects go after that.

    Attributes:
        pages: names of pages.
        run_ids: ended runs that are in no page.
        logs_of: ended runs that are in no page, and lose their log.
    """

    kind: Literal["expired"] = "expired"
    pages: list[str] = []
    run_ids: list[str] = []
    logs_of: list[str] = []


Event = (
    Joined | Left | Claimed | Accepted | Withdrawn | Updated | Ended | Leftovers | Swept | Paged | Imported | Expired
)
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def encode(header: Header, lines: Iterable[str]) -> bytes:
    """A segment as it is stored; `lines` are its events as JSON."""
    return "".join(f"{line}\n" for line in [header.model_dump_json(), *lines]).encode()


def header_of(segment: bytes) -> Header:
    """Who wrote a segment."""
    return Header.model_validate_json(segment.partition(b"\n")[0])


def decode(segment: bytes) -> tuple[Header, list[Event]]:
    """A segment as it was written."""
    header, *lines = segment.splitlines()
    return Header.model_validate_json(header), [_EVENTS.validate_json(line) for line in lines]
