"""The connection that all calls of a client share: which server, which token, and answers as objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from t3d_server import __version__, discovery
from t3d_server.client.transport import Transport
from t3d_server.errors import (
    AlgorithmNotFoundError,
    DatasetNotFoundError,
    InvalidRequestError,
    NotFoundError,
    RunNotFoundError,
    ServerUnavailableError,
    T3dError,
)
from t3d_server.models import ServerInfo

_MISSING: Mapping[str, type[NotFoundError]] = {
    "algorithms": AlgorithmNotFoundError,
    "datasets": DatasetNotFoundError,
    "runs": RunNotFoundError,
}

T = TypeVar("T")


class Connection:
    """A connection to a server, made of the arguments of `Client`."""

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout_s: float = 60.0, away_s: float = 120.0
    ) -> None:
        local = discovery.read_server()
        if url is None:
            url = os.environ.get("T3D_URL") or (local.url if local else None)
        if url is None:
            raise ServerUnavailableError("No local t3d server is running. Start one by `t3d up`, or set T3D_URL.")
        if local is not None and url.replace("://localhost:", "://127.0.0.1:", 1).rstrip("/") == local.url.rstrip("/"):
            url = local.url  # by its address: `localhost` may lead to the server of another user
        if token is None:
            token = os.environ.get("T3D_TOKEN") or None
        if token is None and local is not None and url == local.url:
            token = discovery.read_token()  # only for the local server
        advice = "Start one by `t3d up`, or set T3D_URL to where it runs."
        self._http = Transport(url, token, timeout_s=timeout_s, away_s=away_s, advice=advice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return self._http.url

    def server(self) -> ServerInfo:
        """The server, its version, devices and limits."""
        return self._ask(ServerInfo, "GET", "/v1")

    def _ask(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        """The answer to a request as an object; `options` are those of `Transport.call`.

        Raises:
            T3dError: as `Transport.call`; also where server and client do not understand each other.
        """
        try:
            with self._understanding(f"{method} {path}"):
                return TypeAdapter(kind).validate_json(self._http.call(method, path, **options).content)
        except NotFoundError as error:
            if type(error) is not NotFoundError:
                raise
            raise self._misunderstood(error.message) from error  # there is no such route

    @contextmanager
    def _understanding(self, request: str) -> Iterator[None]:
        """Raise an error for answers that this client does not expect."""
        try:
            yield
        except ValidationError as error:
            raise self._misunderstood(f"The answer to {request} is not what this client expects.") from error

    def _misunderstood(self, what: str) -> T3dError:
        """The error for an answer that makes no sense: of another release, or of a server of another kind."""
        try:
            version = ServerInfo.model_validate_json(self._http.call("GET", "/v1").content).version
        except (T3dError, ValidationError):
            return ServerUnavailableError(f"{self.url} answers, but as no t3d server does: is the URL right? {what}")
        return T3dError(
            f"{what} {self.url} runs t3d_server {version}, and this client is of {__version__}: "
            "install the same release on both sides."
        )


def path_of(*parts: str) -> str:
    """Path of a route below /v1.

    Raises:
        NotFoundError: a name or id that cannot be part of a path, so that nothing can have it.
    """
    kind, *names = parts
    if any(name in ("", ".", "..") or "/" in name for name in names):
        raise _MISSING.get(kind, NotFoundError)(f"None of the {kind} is {'/'.join(names)!r}.")
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def json_of(content: Mapping[str, Any]) -> bytes:
    """JSON of values that users give, numbers and arrays of numpy among them.

    Raises:
        InvalidRequestError: it cannot be written as JSON.
    """
    try:
        return json.dumps(content, default=lambda value: value.tolist(), allow_nan=False).encode()
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"This cannot be sent as JSON: {error}") from error
