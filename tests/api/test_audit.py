"""The log tells who changed what."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Server


def audit(caplog: pytest.LogCaptureFixture) -> list[tuple[object, ...]]:
    records = [vars(record) for record in caplog.records if record.name == "t3d_server.api.audit"]
    return [tuple(record[key] for key in ("action", "subject", "role", "token", "status")) for record in records]


def test_a_request_that_changes_something_is_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """With whose token, by its digest, also where it was refused; what only reads is not."""
    caplog.set_level(logging.INFO, "t3d_server.api.audit")
    user = hashlib.sha256(b"a-user").hexdigest()[:8]
    with server.client("a-user") as client:
        dataset = client.upload(np.zeros((2, 2), np.uint8)).id
    path = f"/v1/datasets/{dataset}"
    server.request("GET", path)
    server.request("DELETE", path, token="wrong")
    server.request("DELETE", path, token="a-user")
    server.request("DELETE", "/v1/algorithms/probe/1.0.0", token="a-user")
    server.request("DELETE", f"/api/v0/files/{dataset}")
    server.request("POST", "/v1/nothing")

    assert audit(caplog) == [
        ("upload", path, "use", user, 201),
        ("delete", path, None, None, 401),
        ("delete", path, "use", user, 204),
        ("remove", "/v1/algorithms/probe/1.0.0", "use", user, 403),
        ("delete", f"/api/v0/files/{dataset}", "admin", hashlib.sha256(b"an-admin").hexdigest()[:8], 404),
    ]
