"""Routes of algorithms, and publishing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from t3d_server.errors import (
    AlgorithmNotFoundError,
    ForbiddenError,
    ImportFailedError,
    InvalidPackageError,
    InvalidRequestError,
    LoadFailedError,
    VersionConflictError,
    VersionNotFoundError,
)
from t3d_server.models import Publication, PublishRequest

if TYPE_CHECKING:
    from tests.api.conftest import Server


def folder(path: Path, files: dict[str, str], **changed: str) -> dict[str, Path]:
    """Writes files, with texts replaced; gives what `Client.publish` takes."""
    for name, content in files.items():
        for old, new in changed.items():
            content = content.replace(old, new)
        (path / name).write_text(content)
    return {name: path / name for name in files}


def test_algorithms_are_listed_and_filtered(server: Server) -> None:
    with server.client("a-user") as client:
        assert [info.name for info in client.algorithms()] == ["probe"]
        assert client.algorithms(algorithm_type="Image2Image", tag="image-denoising", device="cpu")
        assert not client.algorithms(tag="other")
        assert not client.algorithms(algorithm_type="Generic")
        assert not client.algorithms(device="gpu")
        assert client.algorithm("probe").current == "1.0.0"
        assert client.version("probe", "1.0.0").manifest.name == "probe"
        assert set(client.args_schema("probe")["properties"]) == {"mode", "amount", "weight"}
        assert client.args_schema("probe", "1.0.0") == client.args_schema("probe")


@pytest.mark.parametrize("name", ["nothing", "%00", "%2e%2e", "..%2Fprobe", "%F0%9F%98%80", "x" * 9000, "probe%20"])
@pytest.mark.parametrize("route", ["", "/1.0.0", "/args-schema"])
def test_unknown_names_are_not_found(server: Server, name: str, route: str) -> None:
    assert server.request("GET", f"/v1/algorithms/{name}{route}").status_code == 404


@pytest.mark.parametrize("version", ["9.9.9", "%00", "1.0", "01.0.0", "%2e%2e", "9" * 5000, "current.json", "9.9.9/x"])
def test_unknown_versions_are_not_found(server: Server, version: str) -> None:
    assert server.request("GET", f"/v1/algorithms/probe/{version}").status_code == 404
    assert server.request("GET", f"/v1/algorithms/probe/args-schema?version={version}").status_code == 404


def test_publish_use_run_and_remove(server: Server, probe_files: dict[str, str], tmp_path: Path) -> None:
    files = folder(tmp_path, probe_files, **{"1.0.0": "1.1.0", 'args["amount"]': "5"})
    sent: list[tuple[int, int]] = []
    stages: list[str] = []

    def give_up(*news: int) -> None:
        raise RuntimeError("enough")

    with server.client() as client:
        with pytest.raises(RuntimeError, match="enough"):
            client.publish(files, on_progress=give_up)
        published = client.publish(files, on_progress=lambda *news: sent.append(news), on_stage=stages.append)
        assert published.manifest.version == "1.1.0"
        assert sent[-1][0] == sent[-1][1] == sum(path.stat().st_size for path in files.values())
        assert stages[:2] == ["hashing", "uploading"]
        assert client.publish(files).published_at == published.published_at
        assert client.algorithm("probe").current == "1.1.0"
        assert client.use("probe", "1.0.0").current == "1.0.0"
        image = np.zeros((3, 3), np.uint8)
        assert client.submit("probe", image).wait(60).version == "1.0.0"
        forever = client.submit("probe", image, args={"mode": "forever"}, version="1.1.0")
        client.remove("probe", "1.1.0", cancel_runs=True)
        assert forever.wait(60).status == "CANCELLED"
        with pytest.raises(VersionNotFoundError):
            client.use("probe", "1.1.0")
        with pytest.raises(AlgorithmNotFoundError):
            client.use("nothing", "1.1.0")


def test_publishing_that_takes_long_answers_and_goes_on(
    server: Server, probe_files: dict[str, str], tmp_path: Path
) -> None:
    slow = {"Runner.py": "import time; time.sleep(0.3)\n" + probe_files["Runner.py"]}
    files = folder(tmp_path, {**probe_files, **slow}, probe="slow")
    for path in files.values():
        content = path.read_bytes()
        blob = f"/v1/blobs/{hashlib.sha256(content).hexdigest()}"
        assert server.request("PUT", blob, data=content).status_code == 204
        assert server.request("HEAD", blob).status_code == 200
    body = {"files": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}}
    response = server.request("POST", "/v1/algorithms?wait_s=0", json=body)
    assert (response.status_code, response.json()["stage"]) == (202, "loading")
    response = server.request("POST", "/v1/algorithms?wait_s=60", json=body)
    assert (response.status_code, response.headers["Location"]) == (201, "/v1/algorithms/slow/1.0.0")
    assert server.request("DELETE", response.headers["Location"]).status_code == 204


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({'"probe"': '"pro be"'}, InvalidPackageError),
        ({"import time": "import nothing_of_the_kind", '"probe"': '"p"'}, ImportFailedError),
        ({"def inference": "def load_assets(self): 1 / 0\n\n    def inference", '"probe"': '"p"'}, LoadFailedError),
        ({'args["amount"]': "4"}, VersionConflictError),
    ],
)
def test_what_cannot_be_published_comes_back_as_its_error(
    server: Server, probe_files: dict[str, str], tmp_path: Path, changed: dict[str, str], error: type[Exception]
) -> None:
    with server.client() as client, pytest.raises(error) as caught:
        client.publish(folder(tmp_path, probe_files, **changed))
    if error in (ImportFailedError, LoadFailedError):
        assert "Runner.py" in caught.value.traceback  # type: ignore[attr-defined]  # every error of ours has one


def test_what_is_stored_as_an_asset_is_not_uploaded(server: Server) -> None:
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    assert server.request("HEAD", f"/v1/blobs/{sha256}").status_code == 404
    server.store.put(f"assets/{sha256}", content)
    assert server.request("HEAD", f"/v1/blobs/{sha256}").status_code == 200


def test_a_file_that_is_taken_away_after_its_upload_is_sent_again(
    server: Server, probe_files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As happens where another publication that has the file ends in between."""
    files = folder(tmp_path, probe_files, probe="twice")
    sha256 = hashlib.sha256(files["Runner.py"].read_bytes()).hexdigest()
    publish = server.service.publishing.publish

    async def publish_without(request: PublishRequest, wait_s: float) -> Publication:
        monkeypatch.undo()
        server.store.delete(f"blobs/{sha256}")
        return await publish(request, wait_s)

    monkeypatch.setattr(server.service.publishing, "publish", publish_without)
    with server.client() as client:
        assert client.publish(files).manifest.name == "twice"
        client.remove("twice", "1.0.0")


def test_users_cannot_publish(server: Server, probe_files: dict[str, str], tmp_path: Path) -> None:
    with server.client("a-user") as client, pytest.raises(ForbiddenError):
        client.publish(folder(tmp_path, probe_files))


def test_blobs_are_what_their_names_say_within_the_limit(server: Server) -> None:
    content = b"some bytes"
    right, wrong = hashlib.sha256(content).hexdigest(), "0" * 64
    assert server.request("PUT", f"/v1/blobs/{wrong}", data=content).json()["code"] == InvalidRequestError.code
    assert server.request("HEAD", f"/v1/blobs/{wrong}").status_code == 404
    large = bytes(server.service.limits.max_blob_bytes + 1)
    assert server.request("PUT", f"/v1/blobs/{right}", data=large).status_code == 413
    assert server.request("GET", f"/v1/blobs/{right}").status_code == 405
    for name in ("x", right.upper(), f"{right}0", "%2e%2e", "%00"):
        assert server.request("HEAD", f"/v1/blobs/{name}").status_code == 422
        assert server.request("PUT", f"/v1/blobs/{name}", data=content).status_code == 422
