"""The client against the real app, and against a front that misbehaves as proxies do."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, assert_type

import numpy as np
import pytest
import tifffile

from t3d_server import discovery
from t3d_server.client import Client, RunHandle, runs, transport
from t3d_server.errors import (
    AlgorithmError,
    AlgorithmNotFoundError,
    DatasetNotFoundError,
    InvalidArgsError,
    InvalidDatasetError,
    InvalidRequestError,
    PayloadTooLargeError,
    ServerUnavailableError,
    StoreUnavailableError,
    T3dError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from t3d_server.ids import new_id
from t3d_server.models import DatasetInfo, Run, RunStatus, utc_now

if TYPE_CHECKING:
    from tests.api.conftest import Server

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


def test_run_uploads_runs_and_fetches(client: Client) -> None:
    assert np.array_equal(client.run("probe", IMAGE, args={"amount": np.int64(3)})["image"], IMAGE + 3)
    results = client.run("probe", [IMAGE, client.upload(IMAGE + 1)])
    assert [result["image"][0, 0] for result in results] == [1, 2]
    assert len(client.run("probe", (IMAGE, IMAGE))) == 2  # a tuple is as good as a list


def test_a_short_run_takes_three_requests(client: Client) -> None:
    """Upload, submit and wait, fetch."""
    asked: list[str] = []
    client._http._session.hooks["response"].append(lambda response, **_: asked.append(response.request.method))
    client.run("probe", IMAGE)
    assert asked == ["POST", "POST", "GET"]


def test_types_tell_one_from_several(client: Client, tmp_path: Path) -> None:
    """mypy reads this too."""
    arrays: list[np.ndarray] = [IMAGE, IMAGE]
    assert_type(client.run("probe", IMAGE), dict[str, Any])
    assert_type(client.run("probe", arrays), list[dict[str, Any]])
    info = assert_type(client.upload(IMAGE), DatasetInfo)
    infos = assert_type(client.upload(arrays), list[DatasetInfo])
    assert_type(client.fetch(info), dict[str, Any])
    assert [list(values) for values in assert_type(client.fetch(infos, ["image"]), list[dict[str, Any]])] == [
        ["image"]
    ] * 2
    assert_type(client.download(info.id, tmp_path), Path)
    files = assert_type(client.download(infos, tmp_path / "new"), list[Path])
    assert [path.stem for path in files] == [info.id for info in infos]


def test_of_a_list_all_or_none_are_stored(server: Server, client: Client, tmp_path: Path) -> None:
    """The one that is wrong is named, be it found here or there."""
    (tmp_path / "broken.png").write_bytes(b"nothing")
    before = len(list(server.store.list("datasets/")))
    with pytest.raises(InvalidDatasetError, match=r"data\[1\]: the dataset cannot be stored"):
        client.upload([IMAGE, IMAGE.astype(complex)])
    with pytest.raises(InvalidDatasetError, match=r"broken\.png: not a readable"):
        client.upload([IMAGE, str(tmp_path / "broken.png")])
    with pytest.raises(InvalidDatasetError, match=r"data\[0\]: 1 was given.*several datasets"):
        client.upload([1, 2, 3])  # type: ignore[list-item]
    with pytest.raises(InvalidDatasetError, match=r"inputs\[1\]: None was given"):  # what a forgotten return gives
        client.submit("probe", [new_id(), None])  # type: ignore[list-item]
    assert len(list(server.store.list("datasets/"))) == before


def test_what_was_uploaded_for_a_refused_run_is_removed(server: Server, client: Client) -> None:
    before = len(list(server.store.list("datasets/")))
    with pytest.raises(InvalidArgsError):
        client.run("probe", [IMAGE, IMAGE], args={"amount": 99})
    assert len(list(server.store.list("datasets/"))) == before


@pytest.mark.parametrize("wait_s", [0.0, 0.5], ids=["while it waits", "while it submits"])
def test_ctrl_c_cancels_the_run(server: Server, client: Client, wait_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_SHORT_WAIT_S", wait_s)
    before = {run.id for run in client.runs(limit=1)}
    found: list[str] = []

    def interrupt() -> None:
        with server.client() as other:
            while not found:
                found.extend(run.id for run in other.runs(status="RUNNING", limit=1) if run.id not in before)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        client.run("probe", IMAGE, args={"mode": "forever"})
    thread.join()
    assert client.get_run(found[0], wait_s=10).status == "CANCELLED"


def test_a_folder_of_slices_is_one_stack(client: Client, tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []
    for index in (2, 10, 1):
        np.save(tmp_path / f"slice{index}.npy", np.full((5, 6), index, np.uint16))
    info = client.upload(tmp_path, spacing=(3, 1, 1), on_progress=lambda *news: sent.append(news))
    assert (info.axes, info.spacing) == ("ZYX", (3, 1, 1))
    assert client.fetch_array(info)[:, 0, 0].tolist() == [1, 2, 10]
    assert sent[-1] == (info.size_bytes, info.size_bytes)
    np.save(tmp_path / "slice11.npy", IMAGE)
    with pytest.raises(InvalidDatasetError, match=r"slice11\.npy: shape"):
        client.upload(tmp_path)


def test_slices_that_are_taken_as_colours_are_warned_of(client: Client, tmp_path: Path) -> None:
    """Where the caller stands, and unless somebody said what they are."""
    stack = np.zeros((4, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", stack, photometric="rgb", planarconfig="separate")
    message = r"taken as one colour image of {} channels; say axes='ZYX' if these are slices"
    with pytest.warns(UserWarning, match=r"scan\.tif: " + message.format(4)) as caught:
        client.upload(tmp_path / "scan.tif")
    with pytest.warns(UserWarning, match="^" + message.format(3)) as more:
        client.submit("probe", stack[:3]).wait()
    assert {warning.filename for warning in [*caught, *more]} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.upload(tmp_path / "scan.tif", axes="ZYX").axes == "ZYX"
        assert client.upload({"image": stack[:3], "axes": "CYX"}).axes == "CYX"
        client.upload([stack, np.zeros((20, 30, 3), np.uint8)])


def test_a_key_that_is_not_there_is_told(client: Client) -> None:
    info = client.upload({"image": IMAGE, "note": "x"})
    with pytest.raises(InvalidRequestError, match=r"has no 'imag'; its keys: .*image"):
        client.fetch(info, "imag")


def test_what_names_no_dataset_is_told(client: Client) -> None:
    for wrong in (IMAGE, None, (each for each in [new_id()])):
        with pytest.raises(InvalidRequestError, match="named by its id or info"):
            client.fetch(wrong)  # type: ignore[call-overload]


def test_a_threshold_is_an_image(client: Client) -> None:
    """Of 0 and 1; what is no image says how to make one."""
    info = client.upload(IMAGE > 5)
    assert info.arrays["image"].dtype == "uint8"
    for array, hint in ((IMAGE.astype(np.int64), "np.int32"), (IMAGE.astype(np.uint32), "np.int32")):
        with pytest.raises(InvalidDatasetError, match=rf"image\.astype\({hint}\)"):
            client.upload(array)


def test_runs_are_listed_by_status_in_any_case(client: Client) -> None:
    client.run("probe", IMAGE)
    assert {run.status for run in client.runs(status="completed")} == {"COMPLETED"}


def test_localhost_is_the_local_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """So its token is found."""
    monkeypatch.delenv("T3D_TOKEN", raising=False)
    monkeypatch.setattr(discovery, "read_server", lambda: SimpleNamespace(url=server.url))
    monkeypatch.setattr(discovery, "read_token", lambda: "an-admin")
    monkeypatch.setenv("T3D_URL", server.url.replace("127.0.0.1", "localhost") + "/")
    with Client() as client:
        assert client.algorithms()
        assert client.server().limits["max_dataset_bytes"] == server.service.limits.max_dataset_bytes
        assert type(client.server().limits["max_dataset_bytes"]) is int


def test_a_failed_run_raises_with_the_authors_traceback(client: Client) -> None:
    handle = client.submit("probe", IMAGE, args={"mode": "fail"})
    with pytest.raises(AlgorithmError, match="the image is too green") as caught:
        handle.result()
    assert "Runner.py" in (caught.value.traceback or "")
    assert "Runner.py" in str(caught.value)
    assert (caught.value.run_id, caught.value.run_code) == (handle.id, "algorithm_error")


def test_a_cancelled_run_raises_too(client: Client) -> None:
    handle = client.submit("probe", IMAGE, args={"mode": "forever"})
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    handle.cancel()
    with pytest.raises(AlgorithmError, match="cancelled") as caught:
        handle.result()
    assert caught.value.run_code == "cancelled"


def test_events_tell_of_progress_and_end_with_the_run(client: Client) -> None:
    seen = []
    handle = client.submit("probe", IMAGE, args={"mode": "forever"})
    for event in handle.events():
        seen.append((event.status, event.progress))
        if event.progress == 0.25 and event.status == "RUNNING":
            handle.cancel()
    assert ("RUNNING", 0.25) in seen
    assert seen[-1] == ("CANCELLED", 1.0)
    assert [line.message for line in handle.log()] == ["mode forever", "the run was cancelled"]
    [last] = client.handle(handle.id).events()
    assert (last.run_id, last.message, last.queue_position) == (handle.id, "mode forever", None)
    assert last.time == handle.run.ended_at


def test_what_is_uploaded_is_fetched(client: Client, tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []
    values: dict[str, Any] = {"image": np.ones((3, 600, 700), np.float32), "note": "x", "names": ["a", "b"]}
    info = client.upload(
        values, axes="ZYX", spacing=(2, 0.65, 0.65), spacing_unit="nm", on_progress=lambda *news: sent.append(news)
    )
    assert (info.axes, info.spacing, info.spacing_unit) == ("ZYX", (2.0, 0.65, 0.65), "nm")
    assert len(sent) > 2
    assert sent[-1] == (info.size_bytes, info.size_bytes)
    sent.clear()
    fetched = client.fetch(info.id, on_progress=lambda *news: sent.append(news))
    assert len(sent) > 2
    assert sent[-1] == (info.size_bytes, info.size_bytes)
    assert np.array_equal(fetched["image"], values["image"])
    assert (fetched["note"], fetched["names"], fetched["axes"]) == ("x", ["a", "b"], "ZYX")
    fetched["image"][:] = 2  # writable
    array = client.fetch_array(info.id)
    assert np.array_equal(array, values["image"])
    array[:] = 2
    path = client.download(info.id, tmp_path)
    assert path == tmp_path / f"{info.id}.h5"
    assert client.upload(path).axes == "ZYX"
    assert list(tmp_path.iterdir()) == [path]
    client.delete(info.id)
    with pytest.raises(DatasetNotFoundError):
        client.download(info.id, tmp_path / "other.h5")
    assert list(tmp_path.iterdir()) == [path]


def test_axes_and_spacing_of_a_file_are_told_and_checked(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.zeros((3, 5, 6)))
    info = client.upload(tmp_path / "stack.npy", axes="ZYX", spacing=(2, 1, 1))
    assert (info.axes, info.spacing) == ("ZYX", (2, 1, 1))
    for data in (tmp_path / "stack.npy", np.zeros((3, 5, 6)), {"mask": np.zeros((3, 5, 6), np.uint8)}):
        with pytest.raises(InvalidDatasetError):
            client.upload(data, axes="TYX")


def test_an_array_goes_under_the_key_that_was_asked_for(client: Client) -> None:
    info = client.upload(IMAGE, key="mask")
    assert list(info.arrays) == ["mask"]
    assert np.array_equal(client.fetch_array(info.id, "mask"), IMAGE)


def test_errors_come_back_as_they_were_raised(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(InvalidDatasetError):
        client.upload(tmp_path / "x.npy")
    with pytest.raises(UnsupportedMediaTypeError):
        client.upload(tmp_path / "x.doc")
    with pytest.raises(InvalidDatasetError):
        client.upload({"image": object()})
    with pytest.raises(InvalidRequestError, match="its arrays: image"):
        client.fetch_array(client.upload(IMAGE).id, "nothing")
    with pytest.raises(InvalidArgsError) as caught:
        client.submit("probe", IMAGE, args={"amount": 99, "more": 1})
    assert {problem.key for problem in caught.value.problems} == {"args.amount", "args.more"}
    with pytest.raises(InvalidRequestError):
        client.submit("probe", IMAGE, args={"amount": float("nan")})
    with pytest.raises(DatasetNotFoundError) as missing:
        client.submit("probe", [new_id(), new_id()])
    assert len(missing.value.problems) == 2
    with Client(server.url, "wrong") as stranger, pytest.raises(UnauthorizedError, match="T3D_TOKEN"):
        stranger.algorithms()


def test_the_servers_limit_is_told(server: Server, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.h5"
    with path.open("wb") as file:
        file.truncate(server.service.limits.max_dataset_bytes + 1)
    with pytest.raises(PayloadTooLargeError):
        client.upload(path)


def test_a_store_that_is_back_soon_is_waited_for(server: Server, client: Client) -> None:
    server.store.down = True
    with pytest.raises(StoreUnavailableError):
        client.upload(IMAGE)  # sent once only: who knows what became of it
    timer = threading.Timer(0.3, lambda: setattr(server.store, "down", False))
    timer.start()
    assert client.algorithms()
    timer.join()


def test_credentials_of_a_netrc_file_do_not_replace_the_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with server.client() as client:
        assert client.server().devices == ["cpu"]


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


def test_who_has_waited_long_enough_is_told(front: Client) -> None:
    with Client(front.url, timeout_s=0.1) as client:
        client.algorithms()
        Front.scripted.append(0.3)
        with pytest.raises(ServerUnavailableError, match="has not answered in time"):
            client.algorithms()
    assert len(Front.heard) == 2


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
