"""HTTP as the client needs it: the token, large bodies, and bounded retries of what is safe to send again."""

from __future__ import annotations

import ipaddress
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from t3d_server.client.answers import error_of, unexpected_answer
from t3d_server.client.bodies import BLOCK_BYTES, Body, Progress, Sending
from t3d_server.client.events import EVENT_STREAM, ServerSentEvent, parsed
from t3d_server.client.retries import Failure, Retries, with_retries
from t3d_server.errors import InvalidRequestError, ServerUnavailableError

CONNECT_TIMEOUT_S = 5.0
QUEUE_FULL_S = 30.0
_CONNECTIONS = 16
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})


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
        super().init_poolmanager(*args, blocksize=BLOCK_BYTES, **kwargs)


class Transport:
    """A connection to a server; safe to use from several threads.

    Args:
        url: base URL of the server.
        token: sent with every request, if there is one.
        timeout_s: how long the server may stay silent, beyond the time it was asked to wait.
        away_s: how long it may be away, once it has answered.
        advice: what a user can do if the server cannot be reached; a sentence.
    """

    def __init__(self, url: str, token: str | None, *, timeout_s: float, away_s: float, advice: str) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._away_s = away_s
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
        body: Body | None = None,
        on_progress: Progress | None = None,
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
            body: sent instead, for each attempt from its beginning.
            on_progress: is called with the bytes of `body` that are sent, and their number in total.
            wait_s: how long the server was asked to wait, in seconds.
            repeatable: whether it may be sent again although it may have had its effect; None decides by the method.

        Raises:
            T3dError: the error that the server reported, with the same class.
            ServerUnavailableError: there was no answer, or it is not one of a t3d server.
        """
        if repeatable is None:
            repeatable = method in _REPEATABLE

        def attempt() -> requests.Response:
            data: bytes | Sending | None = json if body is None else Sending(body, on_progress)
            kind = {} if data is None else {"Content-Type": body.content_type if body else "application/json"}
            response = self._send(
                method,
                path,
                params=params,
                headers={**kind, **(headers or {})},
                data=data,
                wait_s=wait_s,
                repeatable=repeatable,
            )
            with response, self._translated(repeatable):
                _ = response.content
            return response

        return with_retries(attempt)

    def receive(
        self,
        path: str,
        target: BinaryIO,
        content_type: str,
        *,
        params: Mapping[str, Any] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Write the answer to a GET into a seekable file; a transfer that breaks off starts again.

        Args:
            path: path below the base URL.
            target: the file.
            content_type: the format to ask for.
            params: query.
            on_progress: is called with the bytes that are there, and their number in total; 0 if that is not known.

        Raises:
            T3dError: as `call`.
        """

        def attempt() -> None:
            target.seek(0)
            target.truncate()
            with self._send("GET", path, params=params, headers={"Accept": content_type}, repeatable=True) as response:
                self._require_type(response, content_type)
                total_bytes = int(response.headers.get("Content-Length", 0))
                blocks = response.iter_content(BLOCK_BYTES)
                while True:
                    with self._translated(True):  # but not the errors of `target`
                        block = next(blocks, None)
                    if block is None:
                        return
                    target.write(block)
                    if on_progress:
                        on_progress(target.tell(), total_bytes)

        with_retries(attempt)

    def events(self, path: str) -> Generator[ServerSentEvent]:
        """Follow a stream of server-sent events; if it breaks off, it is requested again, from the last event on.

        Args:
            path: path below the base URL.

        Raises:
            T3dError: as `call`; also when the server is away for long.
        """
        last_id = ""
        retries = Retries()
        while True:
            headers = {"Accept": EVENT_STREAM} | ({"Last-Event-ID": last_id} if last_id else {})
            try:
                with self._send("GET", path, headers=headers, repeatable=True) as response:
                    self._require_type(response, EVENT_STREAM)
                    for event in parsed(self._lines(response, retries), last_id):
                        last_id = event.id
                        yield event
                error = ServerUnavailableError(f"{self.url} sends no more events of {path}.")
                raise Failure(error, for_s=self._away_s)
            except Failure as failure:
                retries.pause(failure)

    def _lines(self, response: requests.Response, retries: Retries) -> Iterator[bytes]:
        lines = response.iter_lines(chunk_size=None)
        while True:
            with self._translated(True):
                line = next(lines, None)
            if line is None:
                return
            retries.reset()  # also after a comment: a run without events has only these
            yield line

    def _require_type(self, response: requests.Response, content_type: str) -> None:
        if response.headers.get("Content-Type", "").partition(";")[0] != content_type:
            raise unexpected_answer(response, self.url)

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        repeatable: bool,
        params: Mapping[str, Any] | None = None,
        data: bytes | Sending | None = None,
        wait_s: float = 0.0,
    ) -> requests.Response:
        """One attempt; the answer's body is still to be read."""
        sending = data if isinstance(data, Sending) else None
        # The time-out for connecting also holds for each block that is sent, and a busy server may be slow.
        connect_timeout_s = CONNECT_TIMEOUT_S if sending is None else self._timeout_s
        with self._translated(repeatable, sending):
            response = self._session.request(
                method,
                self.url + path,
                params={key: value for key, value in (params or {}).items() if value is not None},
                headers=headers,
                data=data,
                timeout=(connect_timeout_s, self._timeout_s + wait_s),
                stream=True,
                allow_redirects=False,
            )
        if 200 <= response.status_code < 300:
            self._answered = True
            return response
        with response:
            error = error_of(response, self.url)
        full = response.status_code == HTTPStatus.TOO_MANY_REQUESTS  # nothing was done
        away = response.status_code >= 500 if error is None else response.status_code == 503
        # While the server starts again, the proxy in front of it has no paths yet; so the request had no effect.
        pathless = error is None and response.status_code == HTTPStatus.NOT_FOUND and self._answered
        again = pathless or (away and (repeatable or _unfinished(data)))
        self._answered |= error is not None or away
        after = response.headers.get("Retry-After", "")
        raise Failure(
            error or unexpected_answer(response, self.url),
            for_s=QUEUE_FULL_S if full else self._away_s if again else 0.0,
            after_s=float(after) if after.isdecimal() else 0.0,
        )

    @contextmanager
    def _translated(self, repeatable: bool, sending: Sending | None = None) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.InvalidHeader as error:
            raise InvalidRequestError(str(error)) from error
        except requests.RequestException as error:
            if sending is not None and sending.fault is not None:
                raise sending.fault from None
            reason = getattr(error.args[0], "reason", None) if error.args else None
            unreached = isinstance(reason, NewConnectionError | ConnectTimeoutError)
            harmless = repeatable or unreached or _unfinished(sending)
            again = self._answered and harmless  # a server that has never answered is not restarting: there is none
            if isinstance(error, requests.exceptions.MissingSchema | requests.exceptions.InvalidSchema):
                message = f"{self.url} is not the URL of a server: add http:// or https:// in front."
            elif unreached or isinstance(error, ValueError):
                message = f"No t3d server answers at {self.url}. {self._advice}"
            else:
                late = isinstance(error, requests.exceptions.ReadTimeout)
                what = f"{self.url} has not answered in time" if late else f"The connection to {self.url} broke off"
                unknown = "" if harmless else ". Whether the request had its effect is not known"
                message = f"{what}: {error}{unknown}"
                again = again and not late  # the caller has waited as long as it asked for
            raise Failure(ServerUnavailableError(message), for_s=self._away_s if again else 0.0) from error


def _unfinished(data: object) -> bool:
    """Whether the server has certainly not received the whole body; it keeps nothing of a part."""
    return isinstance(data, Sending) and not data.complete


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
