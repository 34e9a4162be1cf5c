"""Streamed answers: byte ranges (RFC 9110, section 14), and a body whose source is closed with it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_RANGE = re.compile(r"bytes=\s*(\d{0,20})-(\d{0,20})\s*")


class Span(NamedTuple):
    """Part of a file: `length` bytes from `offset`."""

    offset: int
    length: int


def requested_span(header: str | None, size_bytes: int) -> Span | None:
    """The part that a Range header asks for.

    Args:
        header: the header; several ranges, and invalid ones, are ignored, as the RFC allows.
        size_bytes: size of the whole.

    Returns:
        The part, None for the whole file.

    Raises:
        HTTPException: 416, no byte of the range is there.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(size_bytes, int(last) + 1) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= end:
        raise HTTPException(
            416, f"The range {header!r} lies outside of {size_bytes} bytes.", {"Content-Range": f"bytes */{size_bytes}"}
        )
    return Span(start, end - start)


class ByteStream(StreamingResponse):
    """A body that comes in chunks.

    An error of the source after the first byte breaks the connection, so that no client takes a part for the whole.
    """

    def __init__(
        self, source: AsyncGenerator[bytes], status_code: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(source, status_code, headers, media_type)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and close the source, also if the client has disconnected."""
        async with aclosing(self._source):
            await super().__call__(scope, receive, send)
