"""Executions of the v0 API, as the desktop clients that speak it see them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import canonical, version_1
from t3d_server.storage.keys import execution_key
from tests.api.v0.client import call, checked, ended, execute, opened, put, refused, upload

if TYPE_CHECKING:
    from tests.api.conftest import Server

RECORD = {
    "execution_id", "algorithm_id", "checkpoint_id", "algorithm_minor_version", "input_dataset_ids",
    "execution_device_override", "resolved_execution_device", "additional_parameters", "session_token",
    "output_dataset_ids", "status", "progress", "time_started", "time_completed", "log",
}  # fmt: skip


def test_an_image_goes_through_an_algorithm(server: Server) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    execution_id = execute(server, [upload(server, image=values)], additional_parameters={"amount": 3})
    record = ended(server, execution_id)
    assert set(record) == RECORD
    assert (record["status"], record["progress"]) == ("COMPLETED", 1.0)
    assert record["resolved_execution_device"] == "cpu"
    assert record["time_started"]
    assert record["time_completed"]
    assert "mode add" in record["log"]
    [output] = record["output_dataset_ids"]
    response = server.request("GET", f"/api/v0/files/{output}")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Length"] == str(len(response.content))
    np.testing.assert_array_equal(opened(response.content)["image"], values + 3)


def test_the_record_holds_what_was_asked_for(server: Server, image: str) -> None:
    asked = {
        "checkpoint_id": "c1",
        "algorithm_minor_version": "0",
        "execution_device_override": "cpu",
        "additional_parameters": {"mode": "add"},
        "session_token": str(uuid.uuid4()),
    }
    record = ended(server, execute(server, [image], **asked, something_new=1))
    assert {key: record[key] for key in asked} == asked
    assert record["input_dataset_ids"] == [image]


def test_null_is_as_good_as_nothing(server: Server, image: str) -> None:
    optional = (
        "checkpoint_id",
        "algorithm_minor_version",
        "execution_device_override",
        "additional_parameters",
        "session_token",
    )
    nothing = dict.fromkeys(optional)
    record = ended(server, execute(server, [image], **nothing))
    assert record["status"] == "COMPLETED"
    assert record["algorithm_minor_version"] is None


def test_unknown_parameters_are_a_warning_in_the_log(server: Server, image: str) -> None:
    record = ended(server, execute(server, [image], additional_parameters={"colour": "red"}))
    assert record["status"] == "COMPLETED"
    assert "WARNING args.colour: unknown and ignored" in record["log"]


def test_values_that_do_not_fit_are_refused(server: Server, image: str) -> None:
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    request = {"algorithm_id": algorithm_id, "input_dataset_ids": [image], "additional_parameters": {"amount": 99}}
    [fault] = refused(server, "POST", "/api/v0/execute-algorithm", 422, "request_validation_error", json=request)[
        "detail"
    ]
    assert fault["loc"] == ["body", "additional_parameters", "amount"]
    assert "from 0 to 10" in fault["msg"]


def test_an_execution_that_was_accepted_is_told_though_its_request_cannot_be_kept(
    server: Server, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its client would start another one."""
    store_put = server.store.put

    def put_but_for_requests(key: str, *given: Any, **options: Any) -> None:
        if key.startswith("executions/"):
            raise StoreUnavailableError("The store does not answer.")
        store_put(key, *given, **options)

    monkeypatch.setattr(server.store, "put", put_but_for_requests)
    assert ended(server, execute(server, [image], checkpoint_id="c1"))["checkpoint_id"] == "c1"


def test_numbers_may_be_text(server: Server, image: str) -> None:
    asked = {"amount": "3", "weight": None}
    record = ended(server, execute(server, [image], additional_parameters=asked))
    assert record["status"] == "COMPLETED"
    assert record["additional_parameters"] == asked


def test_ids_are_taken_in_any_case(server: Server, image: str) -> None:
    execution_id = execute(server, [image.upper()])
    assert ended(server, execution_id.upper())["execution_id"] == execution_id
    refused(server, "POST", f"/api/v0/executions/{execution_id.upper()}/stop", 400, "execution_not_stoppable")
    assert server.request("GET", f"/api/v0/files/{image.upper()}").status_code == 200


def test_all_ids_of_a_record_are_of_version_1(server: Server, image: str) -> None:
    put(server, "mine.h5", server.request("GET", f"/api/v0/files/{image}").content)
    record = ended(server, execute(server, [canonical(image), "mine.h5", image.upper()]))
    assert record["input_dataset_ids"] == [image, "mine.h5", image]
    assert len(record["output_dataset_ids"]) == 3
    for identifier in (
        record["execution_id"], record["algorithm_id"], record["session_token"], *record["output_dataset_ids"],
    ):  # fmt: skip
        checked(identifier)


@pytest.mark.parametrize("form", [canonical, version_1])
def test_an_execution_is_found_by_its_id_in_both_forms(server: Server, image: str, form: Callable[[str], str]) -> None:
    execution_id = execute(server, [image], additional_parameters={"mode": "forever"})
    assert call(server, "GET", f"/api/v0/executions/{form(execution_id)}")["execution_id"] == execution_id
    assert call(server, "POST", f"/api/v0/executions/{form(execution_id)}/stop")
    assert ended(server, form(execution_id))["status"] == "STOPPED"


def test_v1_knows_an_execution_and_its_files_by_the_ids_that_v0_gave(server: Server, image: str) -> None:
    execution_id = execute(server, [image])
    [output] = ended(server, execution_id)["output_dataset_ids"]
    run = call(server, "GET", f"/v1/runs/{execution_id}")
    assert (run["id"], run["input_dataset_ids"]) == (canonical(execution_id), [canonical(image)])
    assert call(server, "GET", f"/v1/runs/{execution_id}/log")
    assert call(server, "POST", f"/v1/runs/{execution_id}/cancel")["id"] == canonical(execution_id)
    assert call(server, "GET", f"/v1/datasets/{output}/info")["id"] == canonical(output)
    got = server.request("GET", f"/v1/datasets/{output}")
    assert got.headers["ETag"] == f'"{canonical(output)}"'
    assert server.request("DELETE", f"/v1/datasets/{output}").status_code == 204


def test_v1_takes_inputs_by_the_ids_that_v0_gave(server: Server, image: str) -> None:
    response = server.request("POST", "/v1/algorithms/probe/runs?wait_s=60", json={"input_dataset_ids": [image]})
    run = response.json()
    assert (run["status"], run["input_dataset_ids"]) == ("COMPLETED", [canonical(image)])


def test_the_python_client_takes_the_ids_that_v0_gave(server: Server, image: str) -> None:
    with server.client() as client:
        client.run("probe", [image])
        assert client.info(image).id == canonical(image)


def test_a_request_that_was_kept_with_ids_of_other_versions_is_still_read(server: Server, image: str) -> None:
    run = server.request("POST", "/v1/algorithms/probe/runs?wait_s=60", json={"input_dataset_ids": [image]}).json()
    algorithm_id = uuid.uuid5(uuid.NAMESPACE_URL, "t3d:algorithms/probe/1")
    kept = {"algorithm_id": str(algorithm_id), "input_dataset_ids": [canonical(image)], "checkpoint_id": "c1"}
    server.store.put(execution_key(run["id"]), json.dumps(kept).encode())
    record = ended(server, version_1(run["id"]))
    assert (record["checkpoint_id"], record["input_dataset_ids"]) == ("c1", [image])


def test_an_algorithm_is_found_by_its_id_of_version_5(server: Server, image: str) -> None:
    """Clients may have kept it."""
    algorithm_id = str(uuid.uuid5(uuid.NAMESPACE_URL, "t3d:algorithms/probe/1"))
    request = {"algorithm_id": algorithm_id, "input_dataset_ids": [image]}
    assert call(server, "POST", "/api/v0/execute-algorithm", json=request)


def test_a_failure_is_told_in_the_log(server: Server, image: str) -> None:
    record = ended(server, execute(server, [image], additional_parameters={"mode": "fail"}))
    assert (record["status"], record["progress"]) == ("FAILED", 1.0)
    assert "ValueError: the image is too green" in record["log"]


def test_an_execution_is_stopped_once(server: Server, image: str) -> None:
    execution_id = execute(server, [image], additional_parameters={"mode": "forever"})
    stop = f"/api/v0/executions/{execution_id}/stop"
    assert call(server, "POST", stop) == {"detail": "Stop request posted successfully"}
    assert ended(server, execution_id)["status"] == "STOPPED"
    refused(server, "POST", stop, 400, "execution_not_stoppable")


def test_missing_inputs_are_named(server: Server, image: str) -> None:
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    missing = [str(uuid.uuid4()), "no/name"]
    request = {"algorithm_id": algorithm_id, "input_dataset_ids": [missing[0], image, missing[1]]}
    body = refused(server, "POST", "/api/v0/execute-algorithm", 404, "input_datasets_not_found", json=request)
    assert body["details"] == {"missing_dataset_ids": missing}


@pytest.mark.parametrize("change", [{"algorithm_id": str(uuid.uuid4())}, {"algorithm_minor_version": "9"}])
def test_unknown_algorithms_cannot_be_executed(server: Server, image: str, change: dict[str, str]) -> None:
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    request = {"algorithm_id": algorithm_id, "input_dataset_ids": [image], **change}
    refused(server, "POST", "/api/v0/execute-algorithm", 404, "algorithm_not_found", json=request)


def test_a_body_that_does_not_fit_is_told_as_a_list(server: Server) -> None:
    request = {"algorithm_id": 5, "input_dataset_ids": ["x", 5], "execution_device_override": "tpu"}
    body = refused(server, "POST", "/api/v0/execute-algorithm", 422, "request_validation_error", json=request)
    assert [fault["loc"] for fault in body["detail"]] == [
        ["body", "algorithm_id"], ["body", "input_dataset_ids", 1], ["body", "execution_device_override"],
    ]  # fmt: skip


@pytest.mark.parametrize(("body", "msg"), [(b"", "is empty; send JSON"), (b"[]", "has to be a JSON object")])
def test_a_body_that_is_no_object_is_told_in_plain_words(server: Server, body: bytes, msg: str) -> None:
    told = refused(server, "POST", "/api/v0/execute-algorithm", 422, "request_validation_error", data=body)
    assert told["detail"] == [{"loc": ["body"], "msg": msg, "type": "value_error"}]


def test_runs_of_v1_are_executions(server: Server, image: str) -> None:
    run = server.request("POST", "/v1/algorithms/probe/runs", json={"input_dataset_ids": [image]}).json()
    record = ended(server, run["id"])
    assert record["status"] == "COMPLETED"
    assert record["algorithm_id"] == call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    for identifier in (record["execution_id"], *record["input_dataset_ids"], record["session_token"]):
        checked(identifier)


def test_all_inputs_that_cannot_be_read_are_told_at_once(server: Server, image: str) -> None:
    put(server, "empty.h5", b"")
    put(server, "broken.h5", b"no HDF5")
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]

    def told(status: int, code: str, *names: str) -> Any:
        request = {"algorithm_id": algorithm_id, "input_dataset_ids": [image, *names]}
        return refused(server, "POST", "/api/v0/execute-algorithm", status, code, json=request)["detail"]

    detail = told(422, "invalid_hdf5_file", "empty.h5", "broken.h5")
    assert all(name in detail for name in ("empty.h5", "broken.h5"))
    faults = told(422, "request_validation_error", "broken.h5", "missing.h5")
    assert [fault["loc"] for fault in faults] == [["body", "input_dataset_ids", index] for index in (1, 2)]


def test_polling_reads_nothing_from_the_store(server: Server, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while the execution is live nor once its end was told."""
    read: list[str] = []

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def calling(key: str, **options: Any) -> Any:
            if not key.startswith("runs/"):  # the log of runs, which the scheduler writes now and then
                read.append(key)
            return method(key, **options)

        return calling

    execution_id = execute(server, [image], additional_parameters={"mode": "forever"})
    path = f"/api/v0/executions/{execution_id}"
    while not call(server, "GET", path)["progress"]:  # its input was read by then
        time.sleep(0.02)
    for name in ("get", "stat", "list"):
        monkeypatch.setattr(server.store, name, counted(getattr(server.store, name)))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: call(server, "GET", path)["status"], range(50))) == {"RUNNING"}
        assert read == []
        call(server, "POST", f"{path}/stop")
        ended(server, execution_id)
        read.clear()
        assert set(pool.map(lambda _: call(server, "GET", path)["status"], range(50))) == {"STOPPED"}
    assert read == []


def test_an_input_that_has_expired_is_missing(server: Server) -> None:
    """As long as it is still there, too."""
    old = "019012d5-0000-7000-8000-000000000001"
    server.store.put(f"datasets/{old}.h5", b"")
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    request = {"algorithm_id": algorithm_id, "input_dataset_ids": [old]}
    body = refused(server, "POST", "/api/v0/execute-algorithm", 404, "input_datasets_not_found", json=request)
    assert body["details"] == {"missing_dataset_ids": [old]}
    refused(server, "GET", f"/api/v0/files/{old}", 404, "file_not_found")
    refused(server, "GET", f"/api/v0/executions/{old}", 404, "execution_record_not_found")
