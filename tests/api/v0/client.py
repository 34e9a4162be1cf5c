"""What a desktop client does, with the answers it expects."""

from __future__ import annotations

import io
import time
import uuid
from typing import TYPE_CHECKING, Any

import h5py

from t3d_server.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server

ENDED = ("COMPLETED", "FAILED", "STOPPED")


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


def checked(identifier: str) -> str:
    """An id, as the clients take it."""
    assert uuid.UUID(identifier).version == 1
    return identifier


def upload(server: Server, **arrays: Any) -> str:
    return checked(call(server, "POST", "/api/v0/files", data=hdf5(**arrays))["file_id"])


def put(server: Server, name: str, content: bytes) -> str:
    """As by a presigned URL; returns the key."""
    key = f"uploads/v0/{name}~{new_id()}"
    server.store.put(key, content)
    return key


def execute(server: Server, inputs: list[str], algorithm: str = "probe", /, **request: Any) -> str:
    algorithm_id = checked(call(server, "GET", f"/api/v0/algorithm/{algorithm}/1")["algorithm_id"])
    content = {"algorithm_id": algorithm_id, "input_dataset_ids": inputs, **request}
    return checked(call(server, "POST", "/api/v0/execute-algorithm", json=content)["execution_id"])


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
