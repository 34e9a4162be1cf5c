"""Routes of runs: submit, list, follow, cancel."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AfterValidator, BeforeValidator

from t3d_server.api.bodies import Draft
from t3d_server.api.described import JSON, described
from t3d_server.api.events import END, MEDIA_TYPE, last_seen, stream_events
from t3d_server.api.listing import MAX_RUNS_PER_PAGE, RunPage, known_cursor
from t3d_server.api.negotiation import agreed
from t3d_server.api.requests import FOR_USERS, MAX_RUN_BYTES, Id, Operations, WaitS, json_content, query_faults
from t3d_server.api.streams import ByteStream
from t3d_server.models import LogLine, Run, RunRequest, RunStatus

router = APIRouter(prefix="/v1", tags=["runs"], dependencies=FOR_USERS)

_LAST = "Id of the last event that the client has received: only later events are sent."
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
    204: {"description": "Everything was seen."},
}
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


async def _draft(request: Request) -> Draft:
    faults = query_faults(request)
    with faults.at("body"):
        draft = Draft.of(await json_content(request, MAX_RUN_BYTES))
        if faults and draft.fault is not None:  # else it is reported with what the service finds
            raise draft.fault
    faults.raise_if_any()
    return draft


@router.post("/algorithms/{name}/runs", status_code=201, openapi_extra=described(RunRequest))
async def submit(
    name: str,
    draft: Annotated[Draft, Depends(_draft)],
    response: Response,
    service: Operations,
    wait_s: WaitS = 0.0,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Chosen by the client, 1 to 255 characters of printable ASCII: the same request with the same "
            "key again returns the same run."
        ),
    ] = None,
) -> Run:
    """Run an algorithm on datasets. After this answer, the run certainly reaches an end."""
    run = await service.submit(name, draft, wait_s=wait_s, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return run


@router.get("/runs")
async def runs(
    service: Operations,
    limit: Annotated[int, Query(ge=1, le=MAX_RUNS_PER_PAGE, description="Most runs on the page.")] = 50,
    cursor: Annotated[
        str | None, AfterValidator(known_cursor), Query(description="`next_cursor` of the page before.")
    ] = None,
    algorithm: Annotated[str | None, Query(description="Only runs of this algorithm.")] = None,
    status: Annotated[
        RunStatus | None,
        BeforeValidator(str.upper),
        Query(description="Only runs with this status, in upper or lower case."),
    ] = None,
) -> RunPage:
    """Runs, newest first.

    A page may have fewer runs than `limit`, or none, although more follow: go on while there is a `next_cursor`.
    """
    return await service.list_runs(limit=limit, cursor=cursor, algorithm=algorithm, status=status)


@router.get("/runs/{run_id}")
async def run(run_id: Id, service: Operations, wait_s: WaitS = 0.0) -> Run:
    """A run; the answer waits until it has ended, but at most `wait_s`."""
    return await service.run(run_id, wait_s)


@router.get("/runs/{run_id}/log", response_model=list[LogLine], responses=_TEXT)
async def log(request: Request, run_id: Id, service: Operations) -> list[LogLine] | Response:
    """The log so far: JSON, or text where Accept asks for text/plain."""
    kind = agreed(request, (JSON, "text/plain"))
    lines = await service.log(run_id)
    if kind == "text/plain":
        text = "".join(f"{line.time.isoformat()} {line.level} {line.message}\n" for line in lines)
        return Response(text, media_type="text/plain; charset=utf-8")
    return lines


@router.get("/runs/{run_id}/events", response_class=Response, responses=_EVENTS)
async def events(
    run_id: Id, service: Operations, last_event_id: Annotated[str | None, Header(description=_LAST)] = None
) -> Response:
    """The events of a run, as server-sent events, from the beginning of its log to its end.

    An event `log` is a line of the log. An event `run` is the run: first its present state, then each change of status,
    progress, message and place in the queue. A comment is sent after ten seconds without an event. The stream ends with
    the run. Its last event has the id `end`; a request with that id gets 204. Each event has an id, except `run` before
    the first line of the log: a client that has received no id connects again without Last-Event-ID.
    """
    if last_event_id == END:
        return Response(status_code=204)
    after = last_seen(last_event_id)
    await service.run(run_id)  # while 404 can be answered
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return ByteStream(stream_events(service.feeds, run_id, after), 200, headers, MEDIA_TYPE)


@router.post("/runs/{run_id}/cancel")
async def cancel(run_id: Id, service: Operations) -> Run:
    """Cancel a run: a queued one at once, a running one when its code next calls the server, or soon by force.

    A run that has ended, or is cancelled already, does not change.
    """
    return await service.cancel(run_id)
