"""What is checked before anything is uploaded for a run, and what is removed when the run is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import requests

from t3d_server.client import Client
from t3d_server.errors import (
    AlgorithmNotFoundError,
    InvalidDatasetError,
    InvalidInputError,
    InvalidRequestError,
    QueueFullError,
    ServerUnavailableError,
    T3dError,
)
from t3d_server.ids import new_id
from t3d_server.models import DatasetInfo, utc_now

IMAGE = np.eye(4, dtype=np.uint8)


class Server:
    """Answers the calls of a client, in place of its `Transport`.

    Attributes:
        calls: the method and the path of each call.
        datasets: ids of the datasets that it has.
        refusal: the answer to each submission.
        most_datasets: further uploads fail.
    """

    url = "http://server"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.datasets: list[str] = []
        self.refusal: Exception = InvalidInputError("refused")
        self.most_datasets = 99

    def call(self, method: str, path: str, **_: Any) -> requests.Response:
        """See `Transport.call`."""
        self.calls.append(f"{method} {path}")
        response = requests.Response()
        response.status_code = 200
        if method == "DELETE":
            self.datasets.remove(path.rpartition("/")[2])
        elif path != "/v1/datasets":
            raise self.refusal
        elif len(self.datasets) == self.most_datasets:
            raise ServerUnavailableError("away")
        else:
            info = DatasetInfo(id=new_id(), created_at=utc_now(), size_bytes=1, arrays={}, values={})
            self.datasets.append(info.id)
            response._content = info.model_dump_json().encode()
        return response


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with Client("http://127.0.0.1:1", "a token") as client:
        monkeypatch.setattr(client, "_http", server)
        monkeypatch.setattr(server, "close", lambda: None, raising=False)
        yield client


@pytest.mark.parametrize(
    "options",
    [
        {"args": {"sigma": object()}},
        {"args": {"sigma": math.nan}},
        {"args": {"sigma": np.float64("inf")}},
        {"args": {"points": np.array([0.0, -math.inf])}},
        {"args": {("a", "b"): 1}},
        {"args": {"sigma": 1j}},
        {"args": ["sigma", 1]},
        {"args": ""},
        {"timeout_s": math.inf},
        {"version": b"1.0.0"},
        {"idempotency_key": ""},
        {"idempotency_key": "ä"},
        {"wait_s": math.nan},
        {"wait_s": -1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_cannot_be_sent_is_told_before_anything_is_uploaded(
    client: Client, server: Server, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        client.submit("blur", [IMAGE, IMAGE], **options)
    if not options.keys() & {"idempotency_key", "wait_s"}:
        with pytest.raises(InvalidRequestError):
            client.run("blur", IMAGE, **options)
    assert server.calls == []


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_no_algorithm_has_is_told_before_anything_is_uploaded(
    client: Client, server: Server, name: str
) -> None:
    with pytest.raises(AlgorithmNotFoundError):
        client.submit(name, IMAGE)
    assert server.calls == []


@pytest.mark.parametrize(
    ("wrong", "error"), [(None, InvalidDatasetError), ("no-such-file.png", FileNotFoundError), (3, InvalidDatasetError)]
)
def test_an_input_that_is_no_dataset_is_told_before_the_others_are_uploaded(
    client: Client, server: Server, wrong: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.submit("blur", [IMAGE, wrong])
    assert server.calls == []


@pytest.mark.parametrize(
    "submit", [lambda client: client.submit("blur", [IMAGE, IMAGE]), lambda client: client.run("blur", [IMAGE, IMAGE])]
)
@pytest.mark.parametrize("refusal", [InvalidInputError("no"), AlgorithmNotFoundError("no"), QueueFullError("no")])
def test_what_was_uploaded_for_a_refused_run_is_removed(
    client: Client, server: Server, submit: Callable[[Client], object], refusal: T3dError
) -> None:
    server.refusal = refusal
    with pytest.raises(type(refusal)):
        submit(client)
    assert [call.partition(" ")[0] for call in server.calls] == ["POST"] * 3 + ["DELETE"] * 2
    assert server.datasets == []


def test_inputs_stay_where_nobody_knows_whether_the_run_was_accepted(client: Client, server: Server) -> None:
    server.refusal = ServerUnavailableError("away")
    with pytest.raises(ServerUnavailableError):
        client.submit("blur", IMAGE)
    assert len(server.datasets) == 1


def test_what_was_uploaded_before_an_upload_that_fails_is_removed(client: Client, server: Server) -> None:
    server.most_datasets = 2
    with pytest.raises(ServerUnavailableError):
        client.submit("blur", [IMAGE, IMAGE, IMAGE])
    assert [call.partition(" ")[0] for call in server.calls] == ["POST"] * 3 + ["DELETE"] * 2
    assert server.datasets == []
