"""What the routes share: the service, the waiting time, and request bodies that are read within limits."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ValidationError

from t3d_server.api.service import MAX_WAIT_S, Service
from t3d_server.errors import InvalidRequestError, PayloadTooLargeError, Problem, UnsupportedMediaTypeError

MAX_JSON_BYTES = 16 * 1024**2
_BLOCK_BYTES = 1024**2

M = TypeVar("M", bound=BaseModel)


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Operations = Annotated[Service, Depends(_service)]
"""The service of the app."""

WaitS = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Longest time to wait for the end, in seconds.")]
"""How long an answer may wait for the end of what it tells of, in seconds."""


def json_body(model: type[M], *, of_any_type: bool = False) -> Callable[[Request], Awaitable[M]]:
    """Dependency that reads a JSON body; unlike FastAPI's own it stops at a limit, and authorization comes first.

    Args:
        model: what it holds.
        of_any_type: whatever Content-Type says.
    """

    async def read(request: Request) -> M:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A page in a browser can send other types to this server without asking first.
        if content_type != "application/json" and not of_any_type:
            raise UnsupportedMediaTypeError(f"Content-Type is {content_type!r:.80}; send application/json.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_JSON_BYTES:
                raise PayloadTooLargeError(f"The body is larger than {MAX_JSON_BYTES} bytes.")
        try:
            return model.model_validate_json(bytes(body))
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False, include_context=False)
            problems = [Problem(".".join(map(str, fault["loc"])) or "body", fault["msg"]) for fault in faults]
            raise InvalidRequestError("The body does not fit the API.", problems=problems) from error

    return read


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The part of a route's OpenAPI description that tells of its `json_body`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


@asynccontextmanager
async def spooled(request: Request, service: Service, max_bytes: int) -> AsyncIterator[Path]:
    """The body as a file, which is gone afterwards, whatever happens.

    Raises:
        PayloadTooLargeError: more than `max_bytes`; told before it is read where the request says its size.
    """
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


def _open(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=folder, prefix="upload-")  # `spooled` closes it


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is larger than the limit of {max_bytes} bytes.")
