"""HTTP as the client needs it: the token, bounded retries, and answers that come back as errors of `errors.py`."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from t3d_server.errors import (
    ForbiddenError,
    ObjectNotFoundError,
    Problem,
    ServerUnavailableError,
    StoreUnavailableError,
    T3dError,
    UnauthorizedError,
)
from t3d_server.models import ProblemDetails

CHUNK_BYTES = 1024**2
CONNECT_TIMEOUT_S = 5.0
RETRY_FOR_S = 30.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 3.0
_CONNECTIONS = 16
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})

T = TypeVar("T")


def _classes(base: type[T3dError]) -> Iterator[type[T3dError]]:
    yield base
    for child in base.__subclasses__():
        yield from _classes(child)


# A subclass comes after its base and takes the code that both share.
ERRORS: Mapping[str, type[T3dError]] = {cls.code: cls for cls in _classes(T3dError)}
"""The error class of each code."""

_HEAD_ERRORS: Mapping[int, type[T3dError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: ObjectNotFoundError,
    503: StoreUnavailableError,
}


class _Bearer(AuthBase):
    """As an `auth` object, so that requests does not put credentials of a .netrc file in place of the token."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Adapter(HTTPAdapter):
    """Sends files in large blocks."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the connection pool."""
        super().init_poolmanager(*args, blocksize=CHUNK_BYTES, **kwargs)


class _Failure(Exception):  # noqa: N818  # it never leaves this file
    """A failed attempt.

    Attributes:
        error: what the caller gets if this was the last one.
        harmless: the server has certainly done nothing, so that any request may be sent again.
        temporary: it may work later.
        after_s: when the server asks to be called again.
    """

    def __init__(self, error: T3dError, *, harmless: bool, temporary: bool, after_s: float = 0.0) -> None:
        super().__init__(error)
        self.error = error
        self.harmless = harmless
        self.temporary = temporary
        self.after_s = after_s


class Transport:
    """A connection to a server; safe to use from several threads.

    Args:
        url: base URL of the server.
        token: sent with every request, if there is one.
        timeout_s: how long the server may stay silent, beyond the time it was asked to wait.
        advice: what to do about a server that cannot be reached; a sentence.
    """

    def __init__(self, url: str, token: str | None, *, timeout_s: float, advice: str) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._advice = advice
        self._answered = False
        self._session = requests.Session()
        self._session.auth = _Bearer(token)
        self._session.trust_env = not _is_loopback(self.url)  # a proxy does not lead to this machine
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_maxsize=_CONNECTIONS))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: bytes | None = None,
        file: Callable[[], BinaryIO] | None = None,
        wait_s: float = 0.0,
        repeatable: bool | None = None,
    ) -> requests.Response:
        """Send a request, and return the whole answer.

        Args:
            method: HTTP method.
            path: path below the base URL.
            params: query; entries that are None are left out.
            headers: further headers.
            json: sent as the body.
            file: opens what is sent as the body instead, for each attempt anew.
            wait_s: how long the server was asked to wait, in seconds.
            repeatable: whether it may be sent again after it may have had its effect; by the method where None.

        Raises:
            T3dError: the error that the server told of, as the class it had there.
            ServerUnavailableError: there was no answer, or none of this server's.
        """

        def attempt() -> requests.Response:
            with ExitStack() as stack:
                data = json if file is None else stack.enter_context(file())
                kind = {"Content-Type": "application/json"} if json is not None else {}
                response = self._send(method, path, params, {**kind, **(headers or {})}, data, wait_s)
                with response, self._translated():
                    _ = response.content
                return response

        return self._persistently(attempt, repeatable=method in _REPEATABLE if repeatable is None else repeatable)

    def receive(
        self,
        path: str,
        target: BinaryIO,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write the answer to a GET into a seekable file; a transfer that breaks off is begun anew.

        Args:
            path: path below the base URL.
            target: the file.
            params: query.
            headers: further headers.

        Raises:
            T3dError: as `call`.
        """

        def attempt() -> None:
            target.seek(0)
            target.truncate()
            with self._send("GET", path, params, headers or {}, None, 0.0) as response:
                chunks = response.iter_content(CHUNK_BYTES)
                while True:
                    with self._translated():  # but not the errors of `target`
                        chunk = next(chunks, None)
                    if chunk is None:
                        return
                    target.write(chunk)

        self._persistently(attempt, repeatable=True)

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        data: bytes | BinaryIO | None,
        wait_s: float,
    ) -> requests.Response:
        """One attempt; the answer's body is still to be read."""
        with self._translated():
            response = self._session.request(
                method,
                self.url + path,
                params={key: value for key, value in (params or {}).items() if value is not None},
                headers=headers,
                data=data,
                timeout=(CONNECT_TIMEOUT_S, self._timeout_s + wait_s),
                stream=True,
                allow_redirects=False,
            )
        self._answered = True
        if 200 <= response.status_code < 300:
            return response
        with response:
            raise _failure(response, self.url)

    def _persistently(self, attempt: Callable[[], T], *, repeatable: bool) -> T:
        """What `attempt` returns; tried again, for a bounded time, where that can help and do no harm."""
        delay_s = _FIRST_DELAY_S
        deadline = time.monotonic() + RETRY_FOR_S
        while True:
            try:
                return attempt()
            except _Failure as failure:
                wait_s = max(delay_s, failure.after_s)
                again = failure.temporary and (repeatable or failure.harmless)
                if not again or time.monotonic() + wait_s > deadline:
                    raise failure.error from failure.__cause__
            time.sleep(wait_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            reason = getattr(error.args[0], "reason", None) if error.args else None
            unreached = isinstance(reason, NewConnectionError | ConnectTimeoutError)
            if unreached or isinstance(error, ValueError):
                unavailable = ServerUnavailableError(f"No t3d server answers at {self.url}. {self._advice}")
            else:
                unavailable = ServerUnavailableError(f"The connection to {self.url} broke off: {error}")
            # A server that has never answered is not starting again: it is not there.
            raise _Failure(unavailable, harmless=unreached, temporary=self._answered) from error


def _failure(response: requests.Response, url: str) -> _Failure:
    status = response.status_code
    after = response.headers.get("Retry-After", "")
    after_s = min(float(after), RETRY_FOR_S) if after.isdecimal() else 0.0
    try:
        error = _told(response)
    except (ValueError, requests.RequestException):
        # So does the proxy in front answer while the server behind it starts again, or another server altogether.
        kind = ServerUnavailableError if status >= 500 else T3dError
        error = kind(f"{url} answered {status} {response.reason}, which no t3d server says: is the URL right?")
        return _Failure(error, harmless=False, temporary=status >= 500, after_s=after_s)
    return _Failure(error, harmless=status == 429, temporary=status in (429, 503), after_s=after_s)


def _told(response: requests.Response) -> T3dError:
    """The error that the server tells of; ValueError where it is none of this server's."""
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        raise ValueError
    if response.request.method == "HEAD":  # an answer without a body
        kind = _HEAD_ERRORS.get(response.status_code, T3dError)
        return kind(f"The server answered {response.status_code} {response.reason} to HEAD {response.url}.")
    problem = ProblemDetails.model_validate_json(response.content)
    return ERRORS.get(problem.code, T3dError)(
        problem.detail,
        problems=[Problem(item.key, item.message) for item in problem.errors],
        traceback=problem.traceback,
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
