"""The client against a front that misbehaves as proxies and restarting servers do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from t3d_server.client import Client, RunHandle, transport
from t3d_server.errors import AlgorithmNotFoundError, InvalidRequestError, ServerUnavailableError, T3dError
from t3d_server.ids import new_id
from t3d_server.models import Run, RunStatus, utc_now


class Front(BaseHTTPRequestHandler):
    """Answers what it was told to, numbers being pauses in seconds, then what a server without algorithms does."""

    protocol_version = "HTTP/1.1"
    scripted: ClassVar[list[Any]] = []
    heard: ClassVar[list[str]] = []
    headers_heard: ClassVar[list[Message]] = []

    def answer(self) -> None:
        self.heard.append(f"{self.command} {self.path}")
        self.headers_heard.append(self.headers)
        pause_s = self.scripted.pop(0) if self.scripted and isinstance(self.scripted[0], float) else 0.0
        answer = self.scripted.pop(0) if self.scripted else None
        time.sleep(pause_s)
        self.close_connection = answer is not None
        if answer == UNREAD:
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if answer is not None:
            self.wfile.write(answer)
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    do_GET = do_POST = answer  # noqa: N815  # their names there

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Say nothing."""


def json_answer(content: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """An answer with a body."""
    return b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (status, kind, len(content), content)


def stream(content: bytes) -> bytes:
    """Server-sent events, in a connection that breaks off after them."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + (b"%x\r\n%s\r\n" % (len(content), content) if content else b"")


BROKEN = b""

UNREAD = b"the connection breaks off before the body is read"

PLAIN_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"

PLAIN_503 = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[]"

PROBLEM = b"application/problem+json"

FAULT = json_answer(b'{"title": "x", "status": 500, "detail": "a bug", "code": "internal_error"}', b"500 X", PROBLEM)

NO_ROUTE = json_answer(
    b'{"title": "x", "status": 404, "detail": "There is no route", "code": "not_found"}', b"404 X", PROBLEM
)

PATHLESS = json_answer(b"Path '/v1' not found. Ping http://.../-/routes for available routes.", b"404 X", b"text/plain")

SERVER = json_answer(b'{"name": "t3d_server", "version": "99.0.0", "devices": [], "limits": {}}')

PAGE = json_answer(b"<html>Welcome</html>", kind=b"text/html")

ELSEWHERE = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def front() -> Iterator[Client]:
    Front.scripted.clear()
    Front.heard.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        with Client(f"http://127.0.0.1:{http_server.server_port}", "secret") as client:
            client.algorithms()
            Front.heard.clear()
            Front.headers_heard.clear()
            yield client
        http_server.shutdown()
        thread.join()


@pytest.mark.parametrize("answers", [[PLAIN_500, PLAIN_503], [BROKEN, BROKEN], [CUT_OFF]])
def test_what_a_restarting_server_answers_is_tried_again(front: Client, answers: list[bytes]) -> None:
    Front.scripted.extend(answers)
    assert front.algorithms() == []
    assert Front.heard == ["GET /v1/algorithms"] * (len(answers) + 1)


def test_a_proxy_that_has_no_paths_yet_is_asked_again(front: Client) -> None:
    """Whatever was asked, as nothing was done; but not where no t3d server was ever there."""
    Front.scripted += [PATHLESS, PATHLESS]
    assert front.algorithms() == []
    Front.scripted += [PATHLESS, FAULT]
    with pytest.raises(T3dError, match="a bug"):
        front.upload(np.zeros((4, 4)))
    Front.scripted += [PATHLESS]
    with (
        Client(front.url) as stranger,
        pytest.raises(ServerUnavailableError, match="starting again, or is the URL wrong"),
    ):
        stranger.algorithms()


def test_patience_begins_with_the_first_failure(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the request took until then."""
    monkeypatch.setattr(front._http, "_away_s", 0.15)
    Front.scripted += [0.2, BROKEN]
    assert front.algorithms() == []


def test_that_a_server_is_waited_for_is_told_once(front: Client, caplog: pytest.LogCaptureFixture) -> None:
    """And not where a connection has merely broken off."""
    Front.scripted += [BROKEN]
    front.algorithms()
    assert caplog.messages == []
    Front.scripted += [BROKEN] * 3
    front.algorithms()
    [told] = caplog.messages
    assert "Waiting for the server, 120 s at most: The connection to http://127.0.0.1" in told


def test_who_gives_up_on_a_run_is_told_how_to_get_it(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """By following, waiting and fetching alike."""
    monkeypatch.setattr(front._http, "_away_s", 0.0)
    ended = Run.model_validate(
        {"algorithm": "x", "version": "1.0.0", "resolved_device": "cpu", "input_dataset_ids": [], "id": new_id()}
        | {"created_at": utc_now(), "status": "COMPLETED", "output_dataset_ids": [new_id()]}
    )
    waiting = ended.model_copy(update={"status": RunStatus.PENDING})
    for run, ask in (
        (waiting, RunHandle.wait),
        (waiting, lambda handle: next(handle.events())),
        (ended, RunHandle.result),
    ):
        Front.scripted += [BROKEN]
        with pytest.raises(ServerUnavailableError, match=f"`t3d results {run.id}` waits for it"):
            ask(RunHandle(front, run))


def test_who_has_waited_long_enough_is_told(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front._http, "_timeout_s", 0.1)
    Front.scripted.append(0.3)
    with pytest.raises(ServerUnavailableError, match="has not answered in time"):
        front.algorithms()
    assert len(Front.heard) == 1


def test_events_go_on_after_the_last_one_that_came(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the run has been silent for longer than a server is waited for."""
    monkeypatch.setattr(front._http, "_away_s", 0.15)
    Front.scripted += [stream(b"id: 1\ndata: a\n\n"), 0.2, stream(b": still there\n\n"), stream(b"id: 2\ndata: b\n\n")]
    events = front._http.events("/v1/runs/x/events")
    assert [next(events).data, next(events).data] == ["a", "b"]
    assert [headers["Last-Event-ID"] for headers in Front.headers_heard] == [None, "1", "1"]


def test_streams_without_an_event_are_not_followed_for_ever(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front._http, "_away_s", 0.15)
    Front.scripted += [stream(b"")] * 9
    with pytest.raises(ServerUnavailableError):
        next(front.follow(new_id()))
    Front.scripted[:] = [PAGE]
    with pytest.raises(ServerUnavailableError, match="is the URL right"):
        next(front.follow(new_id()))


def test_a_server_may_take_its_time_to_read(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT_S", 0.1)
    Front.scripted += [0.3, FAULT]
    with pytest.raises(T3dError, match="a bug"):
        front.upload(np.zeros((3000, 1000)))
    assert len(Front.heard) == 1


@pytest.mark.parametrize("answer", [PLAIN_500, PLAIN_503, BROKEN, CUT_OFF])
def test_a_run_is_submitted_again_with_the_same_key(front: Client, answer: bytes) -> None:
    """So that it is one run, whatever became of the first try."""
    Front.scripted += [answer, FAULT]
    with pytest.raises(T3dError, match="a bug"):
        front.submit("probe", new_id())
    assert Front.heard == ["POST /v1/algorithms/probe/runs?wait_s=0.0"] * 2
    [key] = {headers["Idempotency-Key"] for headers in Front.headers_heard}
    assert key is not None


@pytest.mark.parametrize("key", ["", "a\nb", "für", " a", "k" * 256])
def test_what_cannot_be_a_key_is_told_before_anything_is_sent(front: Client, key: str) -> None:
    with pytest.raises(InvalidRequestError, match="printable ASCII"):
        front.submit("probe", np.zeros((4, 4)), idempotency_key=key)
    assert Front.heard == []


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_no_algorithm_can_have_is_not_found(front: Client, name: str) -> None:
    with pytest.raises(AlgorithmNotFoundError):
        front.submit(name, new_id())
    with pytest.raises(AlgorithmNotFoundError):
        front.algorithm(name)
    assert Front.heard == []


def test_a_dataset_is_sent_again_only_where_nothing_can_be_left(front: Client) -> None:
    """Where the connection breaks off in the middle of it, but not where it does after the end."""
    Front.scripted += [UNREAD, BROKEN]
    with pytest.raises(ServerUnavailableError, match="not known"):
        front.upload(np.zeros((4000, 4000)))
    assert Front.heard == ["POST /v1/datasets?key=image"] * 2


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([PAGE, PAGE], "as no t3d server does: is the URL right"),
        ([json_answer(b'[{"name": "x"}]'), SERVER], "runs t3d_server 99.0.0, and this client is of"),
        ([NO_ROUTE, SERVER], "There is no route.* runs t3d_server 99.0.0"),
    ],
    ids=["another web server", "another answer", "no such route"],
)
def test_who_does_not_understand_the_answer_is_told_why(front: Client, answers: list[bytes], message: str) -> None:
    Front.scripted += answers
    with pytest.raises(T3dError, match=message):
        front.algorithms()


def test_events_of_another_release_are_told_as_such(front: Client) -> None:
    Front.scripted += [stream(b'event: run\ndata: {"id": 5}\n\n'), SERVER]
    with pytest.raises(T3dError, match=r"events is not what .* runs t3d_server 99\.0\.0"):
        next(front.follow(new_id()))


def test_a_page_of_another_web_server_is_no_dataset(front: Client, tmp_path: Path) -> None:
    Front.scripted.append(PAGE)
    with pytest.raises(ServerUnavailableError, match=r"text/html.* is the URL right"):
        front.download(new_id(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "message"), [(FAULT, "a bug"), (ELSEWHERE, "is the URL right")])
def test_a_fault_of_the_server_is_told_at_once(front: Client, answer: bytes, message: str) -> None:
    Front.scripted.append(answer)
    with pytest.raises(T3dError, match=message):
        front.algorithms()
    assert len(Front.heard) == 1


def test_nobody_there_is_told_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = "http://{}:{}".format(*closed.getsockname())
        with Client(url) as client, pytest.raises(ServerUnavailableError, match=r"No t3d server.*t3d up"):
            client.algorithms()
    with Client("127.0.0.1:8000") as client, pytest.raises(ServerUnavailableError, match="add http://"):
        client.algorithms()
