"""Files of the v0 API, as the desktop clients that speak it see them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from fastapi import FastAPI

from t3d_server.api.auth import Gate
from t3d_server.api.service import Limits, Service
from t3d_server.api.v0 import files
from t3d_server.api.v0.app import create_v0
from t3d_server.datasets.store import DatasetStore
from t3d_server.ids import canonical, version_1
from t3d_server.packages.registry import Registry
from t3d_server.run_store.history import RunHistory
from t3d_server.storage.s3 import S3ObjectStore
from tests.api.v0.client import call, ended, execute, hdf5, opened, put, refused, upload

if TYPE_CHECKING:
    from tests.api.conftest import Server


@pytest.mark.parametrize("path", ["/", "/api/v0/files/{}"])
def test_head_tells_of_what_get_sends(server: Server, image: str, path: str) -> None:
    head, got = (server.request(method, path.format(image)) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Length"):
        assert head.headers[name] == got.headers[name]


def test_colours_come_first_on_the_way_in_and_out(server: Server) -> None:
    values = np.arange(90, dtype=np.uint8).reshape(3, 5, 6)
    file_id = upload(server, image=values)
    assert server.service.datasets.info(canonical(file_id)).axes == "CYX"
    [output] = ended(server, execute(server, [file_id]))["output_dataset_ids"]
    np.testing.assert_array_equal(opened(server.request("GET", f"/api/v0/files/{output}").content)["image"], values + 1)


def test_files_are_the_datasets_of_v1(server: Server) -> None:
    file_id = upload(server, image=np.zeros((5, 6), np.uint8), mat=np.eye(3))
    assert server.service.datasets.info(canonical(file_id)).arrays.keys() == {"image", "mat"}
    assert call(server, "DELETE", f"/api/v0/files/{file_id}") == {"detail": "File deleted successfully"}
    assert server.request("HEAD", f"/v1/datasets/{file_id}").status_code == 404


def test_a_named_file_is_checked_and_becomes_a_dataset_when_it_is_used(server: Server) -> None:
    put(server, "slice-1.h5", hdf5(image=np.zeros((2, 2), np.uint8)))
    record = ended(server, execute(server, ["slice-1.h5"]))
    assert record["status"] == "COMPLETED"
    assert record["input_dataset_ids"] == ["slice-1.h5"]
    again = ended(server, execute(server, ["slice-1.h5"]))
    runs = [call(server, "GET", f"/v1/runs/{each['execution_id']}") for each in (record, again)]
    assert runs[0]["input_dataset_ids"] == runs[1]["input_dataset_ids"]
    assert call(server, "DELETE", "/api/v1/files/slice-1.h5") == {"detail": "File deleted successfully"}
    refused(server, "DELETE", "/api/v1/files/slice-1.h5", 404, "file_not_found")

    put(server, "broken", b"no HDF5")
    assert "'broken'" in refused(server, "GET", "/api/v0/files/broken", 422, "invalid_hdf5_file")["detail"]
    assert call(server, "DELETE", "/api/v0/files/broken")


@pytest.mark.parametrize("form", [canonical, version_1])
def test_a_file_is_found_and_removed_by_its_id_in_both_forms(server: Server, form: Callable[[str], str]) -> None:
    file_id = form(upload(server, image=np.zeros((2, 2), np.uint8)))
    assert server.request("GET", f"/api/v0/files/{file_id}").status_code == 200
    assert call(server, "DELETE", f"/api/v1/files/{file_id}")
    refused(server, "GET", f"/api/v0/files/{file_id}", 404, "file_not_found")


@pytest.mark.parametrize("name", ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"])
def test_a_name_that_is_a_uuid_of_version_1_is_kept_as_it_was_chosen(server: Server, name: str) -> None:
    """It is no id of ours: the year that its digits would stand for is beyond what `datetime` can hold."""
    put(server, name, hdf5(image=np.zeros((2, 2), np.uint8)))
    assert ended(server, execute(server, [name]))["input_dataset_ids"] == [name]
    assert server.store.stat(f"names/v0/{name}.json")
    assert call(server, "DELETE", f"/api/v1/files/{name}")


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


def test_clients_reach_the_store_by_presigned_urls(
    s3_store: S3ObjectStore,
    tmp_path: Path,
    serving: Callable[[FastAPI], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = DatasetStore(s3_store, scratch=tmp_path, max_dataset_bytes=2**20)
    service = Service(
        datasets=datasets,
        registry=Registry(s3_store),
        history=RunHistory(s3_store),
        store=s3_store,
        runs=None,  # type: ignore[arg-type]  # no runs here
        publishing=None,  # type: ignore[arg-type]
        scratch=tmp_path,
        limits=Limits(2**20, 2**20, 60.0),
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
        for name, status in (("a/b.h5", 422), (file_id, 409), (file_id.upper(), 409), (version_1(file_id), 409)):
            assert requests.get(f"{url}/api/v1/files/{name}/upload-url", timeout=60).status_code == status
