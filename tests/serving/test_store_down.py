"""A real server while its object store is away, and once it is back."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests

from t3d_server.client import Client
from t3d_server.models import RunStatus
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3ObjectStore
from tests.recorded import recorded

if TYPE_CHECKING:
    from tests.conftest import Server

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def store(embedded_store: EmbeddedStore) -> Iterator[EmbeddedStore]:
    """The store, which runs again afterwards."""
    yield embedded_store
    embedded_store.start()


@pytest.mark.usefixtures("probe")
def test_a_store_that_goes_and_comes_back(
    server: Server, client: Client, server_store: S3ObjectStore, store: EmbeddedStore, tmp_path: Path
) -> None:
    """It is told as such, and nothing is lost: a run that ends meanwhile is on record as soon as that is possible."""
    image = client.upload(IMAGE).id
    go = tmp_path / "go"
    posted, posting = (
        client.submit("probe", image, args={"mode": mode, "path": str(go)}) for mode in ("posts_and_holds", "holds")
    )
    for handle in (posted, posting):
        next(run for run in handle.events() if run.message == "holding")
    store.stop()

    def ask(method: str, path: str, content: bytes = b"", kind: str = "application/json") -> requests.Response:
        headers = {"Authorization": f"Bearer {server.token}", "Content-Type": kind}
        return requests.request(method, server.url + path, headers=headers, data=content, timeout=60)

    npy = io.BytesIO()
    np.save(npy, IMAGE)
    refused = [
        ask("POST", "/v1/datasets", npy.getvalue(), "application/x-npy"),
        ask("GET", f"/v1/datasets/{image}"),
        ask("POST", "/v1/algorithms/probe/runs", json.dumps({"input_dataset_ids": [image]}).encode()),
        ask("PUT", f"/v1/blobs/{hashlib.sha256(b'').hexdigest()}"),
        ask("GET", "/readyz"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(503, "store_unavailable")] * 5
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    named = [store.location.endpoint in answer.text for answer in refused]
    assert named == [True, True, True, True, False]  # of /readyz anybody may ask
    assert ask("GET", "/healthz").status_code == 200
    go.touch()
    next(event for event in posting.events() if event.status is RunStatus.PENDING)  # it could not post its result
    assert not posted.refresh(wait_s=1).status.ended  # the end is not told before it is stored

    store.start()
    assert posted.wait(60).status is RunStatus.COMPLETED
    assert posting.wait(60).status is RunStatus.COMPLETED
    assert posting.run.attempts == 2
    ended = recorded(server_store).ended
    for handle in (posted, posting):
        assert ended[handle.id].run == handle.run
    np.testing.assert_array_equal(posted.result()[0]["image"], IMAGE)
    assert ask("GET", "/readyz").status_code == 200
    np.testing.assert_array_equal(client.run("probe", image)["image"], IMAGE)
