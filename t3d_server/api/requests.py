"""What the routes share: authorization, the service, their queries, and bodies that are read within limits."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import AfterValidator
from pydantic_core import from_json

from t3d_server.api.auth import may_administer, may_use
from t3d_server.api.bodies import M, fitted, place
from t3d_server.api.described import JSON
from t3d_server.api.fastapi_internals import body_types, query_errors, query_names
from t3d_server.api.service import MAX_WAIT_S, Service
from t3d_server.errors import Faults, InvalidRequestError, PayloadTooLargeError, Problem, UnsupportedMediaTypeError
from t3d_server.ids import canonical
from t3d_server.packages.wording import did_you_mean

MAX_JSON_BYTES = 16 * 1024**2
MAX_RUN_BYTES = 2 * 1024**2
"""Largest body of a request for a run: thousands of them are in memory while they wait."""
_BLOCK_BYTES = 1024**2


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def query_faults(request: Request) -> Faults:
    """The faults of a query: wrong values, and names that the route does not take, which would have no effect."""
    known = query_names(request)
    taken = f"unknown; this route takes {', '.join(known) or 'none'}"
    problems = [
        Problem(f"{name:.80}", f"{taken}{did_you_mean(name[:80], known)}")
        for name in request.query_params
        if name not in known
    ]
    sent = Counter(name for name, _ in request.query_params.multi_items())
    problems += [Problem(name, f"is there {sent[name]} times; send it once") for name in known if sent[name] > 1]
    problems += [Problem(place(each["loc"][1:]), each["msg"]) for each in query_errors(request)]
    faults = Faults()
    if problems:
        faults.add("query", InvalidRequestError("The query does not fit the API.", problems=problems))
    return faults


async def _fitting_query(request: Request) -> None:
    """Refuse a query that does not fit; routes with a JSON body check it themselves, to report the faults of both."""
    if JSON not in body_types(request):
        query_faults(request).raise_if_any()


# In this order: without a token, nothing is reported of the query.
FOR_USERS = [Depends(may_use), Depends(_fitting_query)]
"""Dependencies of the routes of v1 that need a token."""
FOR_ADMINS = [Depends(may_administer), Depends(_fitting_query)]
"""Dependencies of the routes that need an admin token."""

Operations = Annotated[Service, Depends(_service)]
"""The service of the app."""

Id = Annotated[str, AfterValidator(canonical)]
"""The id of a dataset or run in a path, in any form that clients have."""

WaitS = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Longest time to wait for the end, in seconds.")]
"""How long an answer may wait for the end of a run or publication, in seconds."""


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Dependency that reads a JSON body; unlike FastAPI's own it stops at a limit, and authorization comes first.

    Args:
        model: model of the body.
    """

    async def read(request: Request) -> M:
        faults = query_faults(request)
        with faults.at("body"):
            content = fitted(model, await json_content(request, MAX_JSON_BYTES))
        faults.raise_if_any()
        return content

    return read


async def json_content(request: Request, max_bytes: int, *, of_any_type: bool = False) -> Any:
    """The content of a JSON body.

    Args:
        request: the request.
        max_bytes: largest size of the body.
        of_any_type: do not check Content-Type.

    Raises:
        UnsupportedMediaTypeError: Content-Type is another one, or Content-Encoding says that it is compressed.
        PayloadTooLargeError: it is larger.
        InvalidRequestError: it is no JSON.
    """
    _require_plain(request)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Pages in browsers can send other types to this server without a preflight request.
    if content_type != JSON and not of_any_type:
        raise UnsupportedMediaTypeError(f"Content-Type is {content_type!r:.80}; send application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    try:
        return from_json(bytes(body))
    except ValueError as error:
        problem = Problem("body", f"is no JSON: {error}" if body else "is empty; send JSON")
        raise InvalidRequestError("The body does not fit the API.", problems=[problem]) from error


@asynccontextmanager
async def spooled(request: Request, service: Service, max_bytes: int) -> AsyncIterator[Path]:
    """The body as a temporary file, which is removed in any case.

    Raises:
        UnsupportedMediaTypeError: Content-Encoding says that it is compressed.
        PayloadTooLargeError: it has more than `max_bytes`; raised before it is read if there is a Content-Length.
    """
    _require_plain(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    file = await service.workers.run(_open, service.scratch)
    try:
        size_bytes = 0
        block = bytearray()
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise _too_large(max_bytes)
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                await service.workers.run(file.write, bytes(block))
                block.clear()
        await service.workers.run(file.write, bytes(block))
        await service.workers.run(file.flush)
        yield Path(file.name)
    finally:
        await service.workers.run(file.close)


def _require_plain(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaTypeError(f"Content-Encoding is {encoding!r:.80}; send the body without one.")


def _open(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=folder, prefix="upload-")  # `spooled` closes it


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is larger than the limit of {max_bytes} bytes.")
