"""The v0 API: what the server is, its algorithms, its errors and its ports."""

from __future__ import annotations

import dataclasses
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.api.v0.listener import listen
from t3d_server.api.workers import Workers
from t3d_server.packages.builder import build, store_package
from tests.api.v0.client import call, execute, refused, upload

if TYPE_CHECKING:
    from tests.api.conftest import Server

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ALGORITHM = {
    "algorithm_id", "algorithm_name", "algorithm_version", "algorithm_minor_versions", "latest_algorithm_minor_version",
    "algorithm_minor_version", "algorithm_input_queue", "algorithm_type", "algorithm_tags", "algorithm_description",
    "supported_devices", "default_device", "additional_parameters", "training_parameters", "benchmark_outputs",
    "removable", "exportable", "storage_metrics",
}  # fmt: skip


def test_the_server_says_what_it_is(server: Server) -> None:
    about = call(server, "GET", "/")
    assert set(about) == {
        "name", "tags", "group", "organization", "domain", "version", "cuda_available", "cuda_capable_devices_count",
    }  # fmt: skip
    assert "compox" in about["tags"]
    assert (about["cuda_available"], about["cuda_capable_devices_count"]) == (False, 0)


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
    assert uuid.UUID(found["algorithm_id"]).version == 1
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
