"""Routes of runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

from t3d_server.ids import new_id
from t3d_server.models import Run

if TYPE_CHECKING:
    from tests.api.conftest import Server

RUNS = "/v1/algorithms/probe/runs"
UNKNOWN = "3fffaaaa-0000-7000-8000-000000000000"
"""Of the far future: old ones might have expired."""


@pytest.fixture(scope="module")
def image(server: Server) -> str:
    """Id of an image."""
    with server.client() as client:
        return client.upload(np.zeros((4, 5), np.uint8)).id


def request(image: str, **args: Any) -> dict[str, Any]:
    return {"input_dataset_ids": [image], "args": args}


def test_a_run_is_accepted_followed_and_logged(server: Server, image: str) -> None:
    response = server.request("POST", RUNS, token="a-user", json=request(image, amount=2))
    run = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/runs/{run['id']}"
    assert run["args"] == {"mode": "add", "amount": 2, "weight": 1.0}
    ended = server.request("GET", f"{response.headers['Location']}?wait_s=60").json()
    assert (ended["status"], ended["progress"], len(ended["output_dataset_ids"])) == ("COMPLETED", 1.0, 1)
    path = f"{response.headers['Location']}/log"
    assert [line["message"] for line in server.request("GET", path).json()] == ["mode add"]
    text = server.request("GET", path, headers={"Accept": "text/plain"})
    assert text.text.endswith(" INFO mode add\n")
    both = server.request("GET", path, headers={"Accept": "application/json, text/plain, */*"})
    assert both.headers["Content-Type"] == "application/json"
    assert server.request("GET", path, headers={"Accept": "image/png"}).status_code == 406


def test_submitting_can_wait_for_the_end(server: Server, image: str) -> None:
    assert server.request("POST", f"{RUNS}?wait_s=60", json=request(image)).json()["status"] == "COMPLETED"


def test_a_running_run_can_be_cancelled_and_cancelling_again_changes_nothing(server: Server, image: str) -> None:
    path = f"/v1/runs/{server.request('POST', RUNS, json=request(image, mode='forever')).json()['id']}"
    assert server.request("POST", f"{path}/cancel").status_code == 200
    assert server.request("GET", f"{path}?wait_s=60").json()["status"] == "CANCELLED"
    assert server.request("POST", f"{path}/cancel").json()["status"] == "CANCELLED"


def test_a_cancellation_is_answered_once_it_is_on_record(server: Server, image: str) -> None:
    path = f"/v1/runs/{server.request('POST', RUNS, json=request(image, mode='forever')).json()['id']}"
    while server.request("GET", path).json()["progress"] != 0.25:
        time.sleep(0.01)
    server.store.down = True
    refused = server.request("POST", f"{path}/cancel")
    server.store.down = False
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    answer = server.request("POST", f"{path}/cancel")
    assert (answer.status_code, answer.json()["cancel_requested"]) == (200, True)
    assert server.request("GET", f"{path}?wait_s=60").json()["status"] == "CANCELLED"


def test_a_run_past_its_deadline_fails_with_timeout(server: Server, image: str) -> None:
    body = {**request(image, mode="forever"), "timeout_s": 0.2}
    run = server.request("POST", f"{RUNS}?wait_s=60", json=body).json()
    assert (run["status"], run["error"]["code"], run["timeout_s"]) == ("FAILED", "timeout", 0.2)
    assert run["attempt_history"][0]["outcome"] == "failed"


def test_a_submission_with_a_key_can_be_sent_again(server: Server, image: str) -> None:
    """Another request with it is refused, and so is what is no key."""
    key = {"Idempotency-Key": new_id()}
    runs = [server.request("POST", RUNS, json=request(image), headers=key).json() for _ in range(2)]
    assert runs[0]["id"] == runs[1]["id"]
    other = server.request("POST", RUNS, json=request(image, amount=3), headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "invalid_request")
    assert runs[0]["id"] in other.json()["detail"]
    for odd in ("", "x" * 256, b"\xff"):
        refused = server.request("POST", RUNS, json=request(image), headers={"Idempotency-Key": odd})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_a_full_queue_says_when_to_come_again(server: Server, image: str) -> None:
    with server.client() as client:
        answers: list[requests.Response] = []
        while not answers or answers[-1].status_code == 201:
            answers.append(server.request("POST", RUNS, json=request(image, mode="forever")))
        assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "queue_full")
        assert int(answers[-1].headers["Retry-After"]) >= 1
        for answer in answers[:-1]:
            client.cancel(answer.json()["id"])


def test_a_run_of_long_ago_is_read_from_its_page(server: Server) -> None:
    path = f"/v1/runs/{server.old_run.id}"
    assert Run.model_validate(server.request("GET", path).json()) == server.old_run
    assert server.request("GET", f"{path}/log").json() == []
    assert server.request("POST", f"{path}/cancel").json()["status"] == "COMPLETED"


@pytest.mark.parametrize("run_id", [UNKNOWN, "x", "%00", "%2e%2e", "%F0%9F%98%80", "x" * 9000])
def test_unknown_runs_are_not_found(server: Server, run_id: str) -> None:
    for method, route in (("GET", ""), ("GET", "/log"), ("POST", "/cancel")):
        response = server.request(method, f"/v1/runs/{run_id}{route}")
        assert (response.status_code, response.json()["code"]) == (404, "run_not_found")


OLD = "019012d5-0000-7000-8000-000000000000"
"""An id of June 2024."""


def test_what_has_expired_is_told_as_such(server: Server, image: str) -> None:
    """With the time and the setting; also a run or an input that is still there, since it may go at any time."""
    for path, setting in ((f"/v1/runs/{OLD}", "T3D_KEEP_RUNS_S"), (f"/v1/datasets/{OLD}/info", "T3D_KEEP_DATASETS_S")):
        response = server.request("GET", path)
        assert (response.status_code, response.json()["code"]) == (410, "expired")
        assert "has expired on 2024-06-14" in response.json()["detail"]
        assert setting in response.json()["detail"]
    server.store.put(f"datasets/{OLD}.h5", b"")
    response = server.request("POST", RUNS, json={"input_dataset_ids": [OLD]})
    assert (response.status_code, response.json()["code"]) == (410, "expired")
    response = server.request("POST", RUNS, json={"input_dataset_ids": [OLD, new_id()]})
    assert (response.status_code, len(response.json()["errors"])) == (404, 2)


def test_runs_are_listed_by_what_became_of_them(server: Server, image: str) -> None:
    failing = server.request("POST", f"{RUNS}?wait_s=60", json=request(image, mode="fail")).json()["id"]
    server.request("POST", f"{RUNS}?wait_s=60", json=request(image))
    with server.client() as client:
        assert [run.id for run in client.runs(status="FAILED", limit=1)] == [failing]
        assert [run.id for run in client.runs(algorithm="gone")] == [server.old_run.id]
        assert client.runs(algorithm="gone", status="FAILED") == []


def test_every_wrong_arg_is_told_at_once(server: Server, image: str) -> None:
    args = {"mode": "divide", "amount": 11, "weight": "heavy", "unknown": 1}
    response = server.request("POST", RUNS, json={"input_dataset_ids": [image], "args": args})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_args")
    assert {item["key"] for item in response.json()["errors"]} == {f"args.{name}" for name in args}


@pytest.mark.parametrize(
    ("algorithm", "body", "keys"),
    [
        ("probe", {"timeout_s": 61, "device": "gpu", "args": {"amount": 11}}, {"timeout_s", "device", "args.amount"}),
        ("probe", {"inputs": [], "args": {"amont": 1}}, {"inputs", "args.amont"}),
        ("probe", {"device": "tpu", "timeout_s": 61}, {"device", "timeout_s"}),
        ("probe", {"input_dataset_ids": "x", "args": {"weight": ""}}, {"input_dataset_ids", "args.weight"}),
        ("probe", {"input_dataset_ids": [1], "timeout_s": -1}, {"input_dataset_ids[0]", "timeout_s"}),
        ("probe", {"input_dataset_ids": ["x"], "args": {"weight": ""}}, {"input_dataset_ids[0]", "args.weight"}),
        ("prob", {"input_dataset_ids": ["x"], "devise": "cpu"}, {"input_dataset_ids[0]", "devise", "algorithm"}),
        ("probe", {"version": "9.9.9", "inputs": []}, {"algorithm", "inputs"}),
    ],
)
def test_faults_of_several_kinds_are_told_at_once(
    server: Server, image: str, algorithm: str, body: dict[str, Any], keys: set[str]
) -> None:
    path, content = f"/v1/algorithms/{algorithm}/runs", {"input_dataset_ids": [image], **body}
    response = server.request("POST", path, json=content)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert sorted(item["key"] for item in response.json()["errors"]) == sorted(keys)
    response = server.request("POST", path, json=content, headers={"Idempotency-Key": ""})
    assert {item["key"] for item in response.json()["errors"]} == {*keys, "Idempotency-Key"}


def test_an_unknown_field_is_told_with_the_one_that_was_meant(server: Server) -> None:
    [problem, _] = server.request("POST", RUNS, json={"input_datasets": []}).json()["errors"][::-1]
    assert problem["key"] == "input_datasets"
    assert "did you mean 'input_dataset_ids'?" in problem["message"]


def test_every_missing_dataset_is_told_at_once(server: Server, image: str) -> None:
    missing = [new_id(), "x\x00y", "../etc", "é" * 300]
    response = server.request("POST", RUNS, json={"input_dataset_ids": [image, *missing]})
    assert (response.status_code, response.json()["code"]) == (404, "dataset_not_found")
    assert [item["key"] for item in response.json()["errors"]] == [f"input_dataset_ids[{n}]" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"device": "gpu"}, 422, "device_not_supported"),
        ({"device": "tpu"}, 422, "invalid_request"),
        ({"timeout_s": 61}, 422, "invalid_request"),
        ({"timeout_s": 0}, 422, "invalid_request"),
        ({"timeout_s": "5"}, 422, "invalid_request"),
        ({"timeout_s": True}, 422, "invalid_request"),
        ({"timeout_s": 10**400}, 422, "invalid_request"),
        ({"version": "9.9.9"}, 404, "version_not_found"),
        ({"version": "../1.0.0"}, 404, "version_not_found"),
        ({"args": []}, 422, "invalid_request"),
        ({"args": {"amount": 10**400}}, 422, "invalid_args"),
        ({"args": {"weight": 10**400}}, 422, "invalid_args"),
        ({"args": {"\x00": {"a": [None]}}}, 422, "invalid_args"),
        ({"input_dataset_ids": "x"}, 422, "invalid_request"),
        ({"input_dataset_ids": ["x"] * 10_001}, 422, "invalid_request"),
        ({"inputs": []}, 422, "invalid_request"),
    ],
)
def test_a_request_that_cannot_be_is_refused(
    server: Server, image: str, body: dict[str, Any], status: int, code: str
) -> None:
    response = server.request("POST", RUNS, json={"input_dataset_ids": [image], **body})
    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b'{"input_dataset_ids": ["\\ud800"]}',
        b'{"args": {"amount": NaN}}',
        b"[" * 100_000,
        bytes(100),
    ],
)
def test_a_body_that_is_no_request_is_refused(server: Server, body: bytes) -> None:
    response = server.request("POST", RUNS, data=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_body_without_end_is_refused(server: Server) -> None:
    chunks = (b" " * (1 << 20) for _ in range(40))
    response = server.request("POST", RUNS, data=chunks, headers={"Content-Type": "application/json"})
    assert response.status_code == 413


def test_a_form_of_another_page_is_refused(server: Server) -> None:
    response = server.request("POST", RUNS, data=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


@pytest.mark.parametrize("wait_s", ["61", "-1", "nan", "inf", "soon"])
def test_waiting_has_its_limits(server: Server, wait_s: str) -> None:
    response = server.request("GET", f"/v1/runs/{new_id()}?wait_s={wait_s}")
    assert [item["key"] for item in response.json()["errors"]] == ["wait_s"]


def test_pages_list_every_run_once_newest_first(server: Server, image: str) -> None:
    forever = server.request("POST", RUNS, json=request(image, mode="forever")).json()["id"]
    for _ in range(4):
        server.request("POST", f"{RUNS}?wait_s=60", json=request(image))
    with server.client() as client:
        everything = client.runs()
    assert [run.id for run in everything] == sorted((run.id for run in everything), reverse=True)
    assert everything[-1].id == server.old_run.id
    listed: list[str] = []
    cursor = ""
    while cursor is not None:
        page = server.request("GET", f"/v1/runs?limit=2{cursor and '&cursor='}{cursor}").json()
        listed += [run["id"] for run in page["runs"]]
        cursor = page["next_cursor"]
    assert listed == [run.id for run in everything]
    with server.client() as client:
        assert [run.id for run in client.runs(status="RUNNING")] == [forever]
        assert [run["id"] for run in server.request("GET", "/v1/runs?status=running").json()["runs"]] == [forever]
        assert forever not in [run.id for run in client.runs(status="COMPLETED")]
        assert client.runs(algorithm="nothing") == []
        client.cancel(forever)
        assert client.get_run(forever, 60).status == "CANCELLED"


def test_an_odd_cursor_is_refused(server: Server) -> None:
    assert server.request("GET", "/v1/runs?cursor=%00").status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({str(index): 1 for index in range(1000)}, 422, "it has 1001 faults"),
        ({"input_dataset_ids": [], "args": {str(index): 1 for index in range(1001)}}, 422, "at most 1000"),
        ({"input_dataset_ids": [], "args": {"mode": "x" * 2_100_000}}, 413, "2097152 bytes"),
        ({"input_dataset_ids": [], "args": {"x" * 1_000_000: 1}}, 422, "unknown"),
    ],
    ids=["fields", "args", "bytes", "name"],
)
def test_a_body_that_would_keep_the_server_busy_is_refused_in_few_words(
    server: Server, body: dict[str, Any], status: int, told: str
) -> None:
    answer = server.request("POST", RUNS, json=body)
    assert answer.status_code == status
    assert told in answer.text
    assert len(answer.content) < 2000
