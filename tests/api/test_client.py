"""The client's runs, errors and credentials, against the real app."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
import pytest

from t3d_server import discovery
from t3d_server.client import Client, runs
from t3d_server.errors import (
    AlgorithmError,
    DatasetNotFoundError,
    InvalidArgsError,
    InvalidDatasetError,
    InvalidRequestError,
    StoreUnavailableError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from t3d_server.ids import new_id
from t3d_server.models import DatasetInfo

if TYPE_CHECKING:
    from tests.api.conftest import Server

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


def test_run_uploads_runs_and_fetches(client: Client) -> None:
    assert np.array_equal(client.run("probe", IMAGE, {"amount": np.int64(3)})["image"], IMAGE + 3)
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
    handle = client.submit("probe", IMAGE, {"mode": "fail"})
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


def test_errors_come_back_as_they_were_raised(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(InvalidDatasetError):
        client.upload(tmp_path / "x.npy")
    (tmp_path / "x.doc").touch()
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
