"""Server-sent events of runs: their form, and where a client continues that connects again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from t3d_server.api.fastapi_internals import sse_comment, sse_event
from t3d_server.api.feeds import Feeds
from t3d_server.errors import InvalidRequestError, Problem

MEDIA_TYPE = "text/event-stream"
END = "end"
"""Id of the last event of a run: a client that connects again with it has seen everything."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def last_seen(event_id: str | None) -> datetime | None:
    """Time of the last log line that a client has seen, by the id of the last event it got.

    Raises:
        InvalidRequestError: no event has such an id.
    """
    if not event_id:
        return None
    if not event_id.isdecimal() or len(event_id) > 17:  # up to the year 5138
        problem = Problem("Last-Event-ID", f"found {event_id!r:.80}, give the id of an event of this run")
        raise InvalidRequestError("The request does not fit the API.", problems=[problem])
    return _EPOCH + int(event_id) * _MICROSECOND


async def stream_events(feeds: Feeds, run_id: str, after: datetime | None) -> AsyncGenerator[bytes]:
    """The events of a run, up to its end.

    Each log line is an event `log`, whose id is its time. Then the state of the run follows: an event `run`, with the
    id of the last line, since receiving it twice does no harm. The last event has the id `end`.

    Args:
        feeds: follows the run.
        run_id: the run.
        after: only log lines after this time.
    """
    seen = _id(after)
    async with aclosing(feeds.follow(run_id, after)) as following:
        async for news in following:
            if news is None:
                yield sse_comment("still there")
                continue
            for line in news.lines:
                seen = _id(line.time)
                yield sse_event("log", line.model_dump_json(), seen)
            seen = END if news.run.status.ended else seen
            yield sse_event("run", news.run.model_dump_json(), seen)


def _id(time: datetime | None) -> str | None:
    return None if time is None else str((time - _EPOCH) // _MICROSECOND)
