"""The v0 API, as the desktop clients that speak it see it."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import requests
from fastapi import FastAPI

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.api.auth import Gate
from t3d_server.api.service import Limits, Service
from t3d_server.api.v0 import files
from t3d_server.api.v0.app import create_v0
from t3d_server.api.v0.listener import listen
from t3d_server.api.workers import Workers
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.registry import Registry
from t3d_server.runs.records import RunRecords
from t3d_server.storage.s3 import S3ObjectStore

if TYPE_CHECKING:
    from tests.api.conftest import Server

ENDED = ("COMPLETED", "FAILED", "STOPPED")
UNKNOWN = "00000000-0000-4000-8000-000000000000"
RECORD = {
    "execution_id", "algorithm_id", "checkpoint_id", "algorithm_minor_version", "input_dataset_ids",
    "execution_device_override", "resolved_execution_device", "additional_parameters", "session_token",
    "output_dataset_ids", "status", "progress", "time_started", "time_completed", "log",
}  # fmt: skip
ALGORITHM = {
    "algorithm_id", "algorithm_name", "algorithm_version", "algorithm_minor_versions", "latest_algorithm_minor_version",
    "algorithm_minor_version", "algorithm_input_queue", "algorithm_type", "algorithm_tags", "algorithm_description",
    "supported_devices", "default_device", "additional_parameters", "training_parameters", "benchmark_outputs",
    "removable", "exportable", "storage_metrics",
}  # fmt: skip


def hdf5(**arrays: Any) -> bytes:
    """A file as the clients write it."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        for key, value in arrays.items():
            root.create_dataset(key, data=value)
    return file.getvalue()


def opened(content: bytes) -> dict[str, Any]:
    with h5py.File(io.BytesIO(content)) as root:
        return {key: root[key][()] for key in root}


def call(server: Server, method: str, path: str, **options: Any) -> Any:
    """The JSON of a successful answer, which always has the status 200."""
    response = server.request(method, path, **options)
    assert response.status_code == 200, response.text
    return response.json()


def refused(server: Server, method: str, path: str, status: int, code: str, **options: Any) -> dict[str, Any]:
    response = server.request(method, path, **options)
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert body["code"] == code
    assert isinstance(body["retryable"], bool)
    return body


def upload(server: Server, **arrays: Any) -> str:
    file_id: str = call(server, "POST", "/api/v0/files", data=hdf5(**arrays))["file_id"]
    return file_id


def put(server: Server, name: str, content: bytes) -> str:
    """As by a presigned URL; returns the key."""
    key = f"uploads/v0/{name}~{new_id()}"
    server.store.put(key, content)
    return key


def execute(server: Server, inputs: list[str], **request: Any) -> str:
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    content = {"algorithm_id": algorithm_id, "input_dataset_ids": inputs, **request}
    execution_id: str = call(server, "POST", "/api/v0/execute-algorithm", json=content)["execution_id"]
    return execution_id


def ended(server: Server, execution_id: str) -> dict[str, Any]:
    """The record at the end; polled, as there is no other way."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        record: dict[str, Any] = call(server, "GET", f"/api/v0/executions/{execution_id}")
        assert record["status"] in ("PENDING", "STARTED", "RUNNING", *ENDED)
        if record["status"] in ENDED:
            return record
        time.sleep(0.02)
    raise AssertionError(record)


@pytest.fixture(scope="module")
def image(server: Server) -> str:
    return upload(server, image=np.arange(12, dtype=np.uint8).reshape(3, 4))


def test_the_server_says_what_it_is(server: Server) -> None:
    about = call(server, "GET", "/")
    assert set(about) == {
        "name", "tags", "group", "organization", "domain", "version", "cuda_available", "cuda_capable_devices_count",
    }  # fmt: skip
    assert "compox" in about["tags"]
    assert (about["cuda_available"], about["cuda_capable_devices_count"]) == (False, 0)


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
    assert uuid.UUID(record["session_token"])
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


@pytest.mark.parametrize("path", ["/", "/api/v0/files/{}"])
def test_head_tells_of_what_get_sends(server: Server, image: str, path: str) -> None:
    head, got = (server.request(method, path.format(image)) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Length"):
        assert head.headers[name] == got.headers[name]


def test_missing_inputs_are_named(server: Server, image: str) -> None:
    algorithm_id = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    missing = [str(uuid.uuid4()), "no/name"]
    request = {"algorithm_id": algorithm_id, "input_dataset_ids": [missing[0], image, missing[1]]}
    body = refused(server, "POST", "/api/v0/execute-algorithm", 404, "input_datasets_not_found", json=request)
    assert body["details"] == {"missing_dataset_ids": missing}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/api/v0/files/{UNKNOWN}", 404, "file_not_found"),
        ("DELETE", f"/api/v0/files/{UNKNOWN}", 404, "file_not_found"),
        ("DELETE", "/api/v1/files/nothing.h5", 404, "file_not_found"),
        ("DELETE", "/api/v1/files/no/name", 404, "file_not_found"),
        ("GET", "/api/v0/algorithm/nothing/1", 404, "algorithm_not_found"),
        ("GET", "/api/v0/algorithm/probe/7", 404, "algorithm_not_found"),
        ("GET", f"/api/v0/executions/{UNKNOWN}", 404, "execution_record_not_found"),
        ("POST", f"/api/v0/executions/{UNKNOWN}/stop", 404, "execution_record_not_found"),
        ("GET", "/api/v0/nothing", 404, "http_404"),
        ("POST", "/api/v0/files", 422, "invalid_hdf5_file"),
    ],
)
def test_what_is_wrong_has_a_code(server: Server, method: str, path: str, status: int, code: str) -> None:
    detail = refused(server, method, path, status, code)["detail"]
    assert isinstance(detail, str)
    assert "run" not in detail


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


def test_a_fault_of_the_server_is_told_without_internals(server: Server) -> None:
    server.store.down = True
    body = refused(server, "GET", "/api/v0/algorithm/all", 503, "store_unavailable")
    assert body["detail"] == "Failed due to an internal server error."
    assert body["retryable"] is True


def test_the_port_of_v1_asks_for_a_token(server: Server) -> None:
    refused(server, "GET", "/api/v0/algorithm/all", 401, "unauthorized", token=None)
    refused(server, "GET", "/", 401, "unauthorized", token=None)


def test_a_doubled_slash_does_no_harm(server: Server) -> None:
    assert call(server, "GET", "//api/v0/algorithm/all")


def test_an_algorithm_is_described(server: Server) -> None:
    found = call(server, "GET", "/api/v0/algorithm/PROBE/1")
    assert set(found) == ALGORITHM
    assert uuid.UUID(found["algorithm_id"]).version == 5
    assert (found["algorithm_name"], found["algorithm_version"], found["algorithm_input_queue"]) == ("probe", "1", "")
    assert found["latest_algorithm_minor_version"] in found["algorithm_minor_versions"]
    [amount] = [each for each in found["additional_parameters"] if each["name"] == "amount"]
    assert set(amount) == {"name", "displayed_name", "description", "config"}
    assert amount["config"] == {
        "type": "int_range", "default": 1, "adjustable": True, "options": [], "min": 0, "max": 10, "step": None,
        "decimal_precision": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["probe"]),
        ("?positive_tag=image-denoising", ["probe"]),
        ("?positive_tag=image-denoising&positive_tag=other", []),
        ("?negative_tag=other", ["probe"]),
        ("?negative_tag=other&negative_tag=image-denoising", []),
        ("?supported_devices=gpu&supported_devices=cpu", ["probe"]),
        ("?supported_devices=gpu", []),
        ("?algorithm_type=Image2Image", ["probe"]),
        ("?algorithm_type=Image2Embedding", []),
    ],
)
def test_algorithms_are_filtered(server: Server, query: str, names: list[str]) -> None:
    found = call(server, "GET", f"/api/v0/algorithm/all{query}")
    assert [each["algorithm_name"] for each in found] == names


def test_a_minor_version_is_its_latest_patch_and_ids_stay(
    server: Server, probe_files: dict[str, str], tmp_path: Path
) -> None:
    before = call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    try:
        for version in ("1.10.0", "1.2.0", "1.2.3", "2.0.0"):
            folder = tmp_path / version
            folder.mkdir()
            for name, content in probe_files.items():
                (folder / name).write_text(content.replace("1.0.0", version))
            server.service.registry.publish(store_package(server.store, build(folder, tags=load_tags(None))))
        found = call(server, "GET", "/api/v0/algorithm/probe/1")
        assert found["algorithm_id"] == before
        assert found["algorithm_minor_versions"] == ["10", "2", "0"]
        assert found["latest_algorithm_minor_version"] == "10"
        assert call(server, "GET", "/api/v0/algorithm/probe/2")["algorithm_id"] != before
        image = upload(server, image=np.zeros((2, 2), np.uint8))
        versions = {
            minor: call(server, "GET", f"/v1/runs/{execute(server, [image], algorithm_minor_version=minor)}?wait_s=60")[
                "version"
            ]
            for minor in (None, "2", 0)
        }
        assert versions == {None: "1.10.0", "2": "1.2.3", 0: "1.0.0"}
    finally:
        for version in ("1.10.0", "1.2.0", "1.2.3", "2.0.0"):
            server.service.registry.remove("probe", version)


def test_colours_come_first_on_the_way_in_and_out(server: Server) -> None:
    values = np.arange(90, dtype=np.uint8).reshape(3, 5, 6)
    file_id = upload(server, image=values)
    assert server.service.datasets.info(file_id).axes == "CYX"
    [output] = ended(server, execute(server, [file_id]))["output_dataset_ids"]
    np.testing.assert_array_equal(opened(server.request("GET", f"/api/v0/files/{output}").content)["image"], values + 1)


def test_files_are_the_datasets_of_v1(server: Server) -> None:
    file_id = upload(server, image=np.zeros((5, 6), np.uint8), mat=np.eye(3))
    assert server.service.datasets.info(file_id).arrays.keys() == {"image", "mat"}
    assert call(server, "DELETE", f"/api/v0/files/{file_id}") == {"detail": "File deleted successfully"}
    assert server.request("HEAD", f"/v1/datasets/{file_id}").status_code == 404


def test_runs_of_v1_are_executions(server: Server, image: str) -> None:
    run = server.request("POST", "/v1/algorithms/probe/runs", json={"input_dataset_ids": [image]}).json()
    record = ended(server, run["id"])
    assert record["status"] == "COMPLETED"
    assert record["algorithm_id"] == call(server, "GET", "/api/v0/algorithm/probe/1")["algorithm_id"]
    assert uuid.UUID(record["session_token"])


def test_a_named_file_is_checked_and_becomes_a_dataset_when_it_is_used(server: Server) -> None:
    put(server, "slice-1.h5", hdf5(image=np.zeros((2, 2), np.uint8)))
    record = ended(server, execute(server, ["slice-1.h5"]))
    assert record["status"] == "COMPLETED"
    assert record["input_dataset_ids"] == ["slice-1.h5"]
    again = ended(server, execute(server, ["slice-1.h5"]))
    runs = [server.service.records.find(each["execution_id"]) for each in (record, again)]
    assert runs[0].input_dataset_ids == runs[1].input_dataset_ids
    assert call(server, "DELETE", "/api/v1/files/slice-1.h5") == {"detail": "File deleted successfully"}
    refused(server, "DELETE", "/api/v1/files/slice-1.h5", 404, "file_not_found")

    put(server, "broken", b"no HDF5")
    assert "'broken'" in refused(server, "GET", "/api/v0/files/broken", 422, "invalid_hdf5_file")["detail"]
    assert call(server, "DELETE", "/api/v0/files/broken")


def test_an_upload_that_comes_while_the_one_before_is_taken_in_is_not_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def file(value: int) -> bytes:
        return hdf5(image=np.full((2, 2), value, np.uint8))

    def pixel() -> int:
        content = server.request("GET", "/api/v0/files/twice.h5").content
        return int(opened(content)["image"][0, 0])

    add = server.service.datasets.add_upload

    def overtaken(*given: Any) -> Any:
        server.store.put(key, file(2))
        monkeypatch.undo()
        return add(*given)

    key = put(server, "twice.h5", file(1))
    monkeypatch.setattr(server.service.datasets, "add_upload", overtaken)
    assert [pixel(), pixel()] == [1, 2]
    assert call(server, "DELETE", "/api/v1/files/twice.h5")
    refused(server, "GET", "/api/v0/files/twice.h5", 404, "file_not_found")


def test_an_upload_that_the_other_port_takes_in_meanwhile_is_one_dataset(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = server.service.datasets.add_upload
    stored: list[str] = []

    def overtaken(*given: Any) -> Any:
        monkeypatch.undo()
        stored.append(asyncio.run(files.Files(server.service).dataset_of("both.h5")))
        return add(*given)

    put(server, "both.h5", hdf5(points=np.zeros(3)))
    before = len(list(server.store.list("datasets/")))
    monkeypatch.setattr(server.service.datasets, "add_upload", overtaken)
    assert server.request("GET", "/api/v0/files/both.h5").status_code == 200
    assert [f"datasets/{dataset_id}.h5" for dataset_id in stored] == [
        stat.key for stat in list(server.store.list("datasets/"))[before:]
    ]


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


def test_clients_reach_the_store_by_presigned_urls(
    s3_store: S3ObjectStore,
    tmp_path: Path,
    serving: Callable[[FastAPI], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = DatasetStore(s3_store, scratch=tmp_path, max_dataset_bytes=2**20)
    service = Service(
        datasets,
        Registry(s3_store),
        RunRecords(s3_store),
        s3_store,
        None,  # type: ignore[arg-type]  # no runs here
        tmp_path,
        Limits(2**20, 2**20, 60.0),
    )
    content = hdf5(points=np.arange(4, dtype=np.uint8))
    with serving(create_v0(service, Gate(None))) as url:
        base = f"{url}/api/v1/files/{uuid.uuid4()}"
        assert requests.put(requests.get(f"{base}/upload-url", timeout=60).json()["url"], data=content, timeout=60).ok
        got = requests.get(requests.get(f"{base}/download-url", timeout=60).json()["url"], timeout=60)
        np.testing.assert_array_equal(opened(got.content)["points"], np.arange(4))

        assert len(list(s3_store.list("uploads/"))) == 1
        monkeypatch.setattr(files, "STAYS_S", -1)  # as if its URL were of long ago
        monkeypatch.setattr(files, "TIDIED_S", 0)
        second = requests.get(f"{base}/upload-url", timeout=60).json()["url"]
        deadline = time.monotonic() + 60
        while list(s3_store.list("uploads/")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert requests.get(f"{base}/download-url", timeout=60).status_code == 200
        assert requests.put(second, data=hdf5(points=np.zeros(1)), timeout=60).ok
        got = requests.get(requests.get(f"{base}/download-url", timeout=60).json()["url"], timeout=60)
        assert opened(got.content)["points"].tolist() == [0]

        assert requests.delete(base, timeout=60).status_code == 200
        assert requests.get(f"{base}/download-url", timeout=60).json()["code"] == "file_not_found"

        file_id = datasets.add({"points": np.zeros(4)}).id
        for name, status in (("a/b.h5", 422), (file_id, 409), (file_id.upper(), 409)):
            assert requests.get(f"{url}/api/v1/files/{name}/upload-url", timeout=60).status_code == status


def test_polling_reads_nothing_from_the_store(server: Server, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while the execution is live nor once its end was told."""
    read: list[str] = []

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def calling(key: str, **options: Any) -> Any:
            if not key.startswith("coordinator/"):  # its lease, which it renews now and then
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


def test_the_other_port_asks_for_no_token_and_comes_when_it_is_free(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listen(dataclasses.replace(server.service, workers=Workers()), "127.0.0.1", port)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            assert requests.get(f"{url}//api/v0/algorithm/all", timeout=60).status_code == 200
            break
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert requests.get(f"{url}/v1/algorithms", timeout=60).json()["code"] == "http_404"
    assert requests.get(f"{url}/", headers={"Origin": "http://example.org"}, timeout=60).status_code == 403
