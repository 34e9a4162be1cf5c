"""Routes of datasets."""

from __future__ import annotations

import http.client
import io
import re
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
import requests
from PIL import Image

from t3d_server.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server

HDF5 = "application/x-hdf5"


def hdf5_file(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return buffer.getvalue()


def upload(server: Server, content: bytes, content_type: str = HDF5, query: str = "") -> requests.Response:
    return server.request("POST", f"/v1/datasets{query}", data=content, headers={"Content-Type": content_type})


@pytest.fixture(scope="module")
def stored(server: Server) -> tuple[str, bytes]:
    """Id and content of a dataset of 3 MB."""
    content = hdf5_file(
        image=np.arange(3 << 18, dtype=np.int32).reshape(3, 512, 512), mask=np.ones((3, 512, 512), np.uint8)
    )
    return upload(server, content, query="?axes=ZYX").json()["id"], content


def test_an_upload_is_described_and_placed(server: Server) -> None:
    response = upload(
        server, hdf5_file(image=np.zeros((4, 5, 6), np.uint8)), HDF5, "?spacing=2,.65,.65&spacing_unit=nm"
    )
    info = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/datasets/{info['id']}"
    assert (info["axes"], info["spacing"], info["spacing_unit"]) == ("ZYX", [2, 0.65, 0.65], "nm")
    assert server.request("GET", f"/v1/datasets/{info['id']}/info").json() == info


def test_a_png_arrives_under_the_key_that_was_asked_for(server: Server) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(buffer, "PNG")
    info = upload(server, buffer.getvalue(), "image/png", "?key=mask").json()
    assert list(info["arrays"]) == ["mask"]


def test_a_jpeg_may_be_called_a_jpg(server: Server) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(buffer, "JPEG")
    assert upload(server, buffer.getvalue(), "image/jpg").json()["axes"] == "YX"


@pytest.mark.parametrize(
    ("content", "content_type", "query", "status", "code"),
    [
        (b"", HDF5, "", 422, "invalid_dataset"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, HDF5, "", 422, "invalid_dataset"),
        (hdf5_file(image=np.zeros((64, 64)))[:-5000], HDF5, "", 422, "invalid_dataset"),
        (b"no file at all", HDF5, "", 422, "invalid_dataset"),
        (b"no file at all", "image/png", "", 422, "invalid_dataset"),
        (b"no file at all", "image/tiff", "", 422, "invalid_dataset"),
        (b"no file at all", "application/x-npy", "", 422, "invalid_dataset"),
        (b"no file at all", "application/x-npz", "", 422, "invalid_dataset"),
        (b"{}", "application/json", "", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data; boundary=x", "", 415, "unsupported_media_type"),
        (b"x", "\x80", "", 415, "unsupported_media_type"),
        (hdf5_file(image=np.zeros((4, 5))), HDF5, "?axes=TYX", 422, "invalid_dataset"),
        (hdf5_file(image=np.zeros((4, 5))), HDF5, "?axes=%00", 422, "invalid_dataset"),
        (hdf5_file(image=np.zeros((4, 5))), HDF5, "?spacing=1,two", 422, "invalid_request"),
        (hdf5_file(image=np.zeros((4, 5))), HDF5, "?spacing=1,2,3", 422, "invalid_dataset"),
        (hdf5_file(image=np.zeros((4, 5))), HDF5, "?spacing=nan,-1", 422, "invalid_dataset"),
        (hdf5_file(image=np.zeros((4, 5))), HDF5, "?spacing=1,1&spacing_unit=%00", 422, "invalid_dataset"),
        (hdf5_file(image=np.zeros((4, 5, 6, 7))), HDF5, "", 422, "invalid_dataset"),
    ],
)
def test_what_is_no_dataset_is_refused_and_leaves_nothing(
    server: Server, content: bytes, content_type: str, query: str, status: int, code: str
) -> None:
    before = len(list(server.store.list("")))
    response = upload(server, content, content_type, query)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert len(list(server.store.list(""))) == before
    assert list(server.scratch.iterdir()) == []


@pytest.mark.parametrize("key", ["%00", "a%2Fb", "%F0%9F%98%80", "x" * 5000, "", "."])
def test_odd_keys_never_fail_the_server(server: Server, key: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 3)))
    assert upload(server, buffer.getvalue(), "application/x-npy", f"?key={key}").status_code in (201, 422)


def test_too_large_is_told_early_by_its_length_and_late_without(server: Server) -> None:
    limit = server.service.limits.max_dataset_bytes
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.putrequest("POST", "/v1/datasets")
    connection.putheader("Authorization", "Bearer a-user")
    connection.putheader("Content-Length", str(limit + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    chunks = (bytes(1 << 20) for _ in range((limit >> 20) + 1))
    response = server.request("POST", "/v1/datasets", data=chunks, headers={"Content-Type": HDF5})
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
    assert list(server.scratch.iterdir()) == []


def test_a_client_that_goes_away_leaves_nothing(server: Server) -> None:
    before = len(list(server.store.list("")))
    netloc = urlsplit(server.url)
    with socket.create_connection((netloc.hostname, netloc.port), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a-user\r\nContent-Length: 9999999\r\n\r\n"
        )
        connection.sendall(bytes(3 << 20))
        wait_until(lambda: any(server.scratch.glob("*")))
    wait_until(lambda: not any(server.scratch.glob("*")))
    assert len(list(server.store.list(""))) == before


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    ticker = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        ticker.wait(0.01)
    raise AssertionError("it did not happen")


def test_a_download_is_the_file(server: Server, stored: tuple[str, bytes]) -> None:
    dataset_id, _ = stored
    response = server.request("GET", f"/v1/datasets/{dataset_id}")
    head = server.request("HEAD", f"/v1/datasets/{dataset_id}")
    assert response.content == b"".join(server.store.get(f"datasets/{dataset_id}.h5"))
    for name in ("Content-Length", "ETag", "Accept-Ranges", "Content-Type", "Cache-Control"):
        assert head.headers[name] == response.headers[name]
    assert head.headers["Content-Length"] == str(len(response.content))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=2000000-", 2000000, None),
        ("bytes=-5", -5, None),
        ("bytes=5-99999999999", 5, None),
    ],
)
def test_a_range_is_that_part(
    server: Server, stored: tuple[str, bytes], asked: str, start: int, stop: int | None
) -> None:
    whole = server.request("GET", f"/v1/datasets/{stored[0]}").content
    response = server.request("GET", f"/v1/datasets/{stored[0]}", headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == whole[start:stop]
    first, last, size = map(int, re.findall(r"\d+", response.headers["Content-Range"]))
    assert whole[first : last + 1] == response.content
    assert size == len(whole)


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_a_range_outside_is_refused(server: Server, stored: tuple[str, bytes], asked: str) -> None:
    response = server.request("GET", f"/v1/datasets/{stored[0]}", headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["Content-Range"].startswith("bytes */")


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=5-1"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=0-1", "If-Range": '"other"'},
    ],
)
def test_other_ranges_give_the_whole(server: Server, stored: tuple[str, bytes], headers: dict[str, str]) -> None:
    assert server.request("GET", f"/v1/datasets/{stored[0]}", headers=headers).status_code == 200


def test_one_array_comes_in_the_format_that_is_asked_for(server: Server) -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    dataset_id = upload(server, hdf5_file(mask=mask)).json()["id"]
    for accept, kind in {
        "*/*": "npy",
        "image/png": "png",
        "image/tiff": "tiff",
        "text/html, image/png;q=.1": "png",
        "image/*": "tiff",
    }.items():
        response = server.request("GET", f"/v1/datasets/{dataset_id}?array=mask", headers={"Accept": accept})
        content = io.BytesIO(response.content)
        assert kind in response.headers["Content-Type"]
        assert np.array_equal(np.load(content) if kind == "npy" else np.asarray(Image.open(content)), mask)


ARRAYS = [(f"?array={name}", kind) for name in ("image", "mask") for kind in ("*/*", "image/*")]
REPRESENTATIONS = [("", "*/*"), *ARRAYS]
"""What can be got of a dataset, and by which Accept."""


@pytest.mark.parametrize(("query", "accept"), REPRESENTATIONS)
def test_head_tells_what_get_does(server: Server, stored: tuple[str, bytes], query: str, accept: str) -> None:
    """But for the size of what has to be converted to learn it."""
    path, headers = f"/v1/datasets/{stored[0]}{query}", {"Accept": accept}
    got, told = (server.request(method, path, headers=headers) for method in ("GET", "HEAD"))
    assert (got.headers["Content-Length"], told.content) == (str(len(got.content)), b"")
    assert told.headers.get("Content-Length") == (None if accept == "image/*" else got.headers["Content-Length"])
    for each in (got.headers, told.headers):
        each.pop("Content-Length", None)
        each.pop("Date")
    assert got.headers == told.headers


def test_a_tag_is_of_one_representation(server: Server, stored: tuple[str, bytes]) -> None:
    asked = [(f"/v1/datasets/{stored[0]}{query}", {"Accept": accept}) for query, accept in REPRESENTATIONS]
    tags = [server.request("HEAD", path, headers=headers).headers["ETag"] for path, headers in asked]
    assert len({tag.removeprefix("W/") for tag in tags}) == len(tags)
    assert [tag.startswith("W/") for tag in tags] == [accept == "image/*" for _, accept in REPRESENTATIONS]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("query", "accept"), REPRESENTATIONS)
def test_who_has_it_is_told_so(server: Server, stored: tuple[str, bytes], query: str, accept: str, method: str) -> None:
    path = f"/v1/datasets/{stored[0]}{query}"
    tag = server.request("HEAD", path, headers={"Accept": accept}).headers["ETag"]
    for known, status in ((tag, 304), (f'"other", {tag}', 304), ("*", 304), ('"other"', 200)):
        answer = server.request(method, path, headers={"Accept": accept, "If-None-Match": known})
        assert (answer.status_code, answer.headers["ETag"]) == (status, tag)
        assert "immutable" in answer.headers["Cache-Control"]
    assert server.request(method, f"/v1/datasets/{new_id()}", headers={"If-None-Match": "*"}).status_code == 404


def test_arrays_that_are_not_there_and_formats_that_are_not_written_are_told(
    server: Server, stored: tuple[str, bytes]
) -> None:
    path = f"/v1/datasets/{stored[0]}"
    response = server.request("GET", f"{path}?array=nothing")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert "image, mask" in response.text
    for query in ("?array=image", ""):
        response = server.request("GET", path + query, headers={"Accept": "text/html"})
        assert (response.status_code, response.json()["code"]) == (406, "unsupported_media_type")
    response = server.request("GET", f"{path}?array=image", headers={"Accept": "image/png"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "accept", ["application/x-hdf5", "application/octet-stream", "application/*", "text/html,image/webp,*/*;q=0.8"]
)
def test_a_file_is_what_these_ask_for(server: Server, stored: tuple[str, bytes], accept: str) -> None:
    answer = server.request("HEAD", f"/v1/datasets/{stored[0]}", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-hdf5")


UNKNOWN = "3fffaaaa-0000-7000-8000-000000000000"
"""Of the far future: old ones might have expired."""


@pytest.mark.parametrize(
    "dataset_id", [UNKNOWN, "x", "%00", "..", "%2e%2e", "a%2Fb", "%F0%9F%98%80", "%ff", "x" * 9000, "%22%0d%0aX: y"]
)
@pytest.mark.parametrize("route", ["", "/info", "?array=image"])
def test_unknown_ids_are_not_found(server: Server, dataset_id: str, route: str) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        if method != "DELETE" or "?" not in route:
            assert server.request(method, f"/v1/datasets/{dataset_id}{route}").status_code in (404, 405)


def test_a_deleted_dataset_is_gone(server: Server) -> None:
    path = f"/v1/datasets/{upload(server, hdf5_file(a=np.zeros(3))).json()['id']}"
    deleted = server.request("DELETE", path)
    assert (deleted.status_code, "Content-Type" in deleted.headers) == (204, False)
    assert server.request("DELETE", path).status_code == 404
    assert server.request("GET", path).json()["code"] == "dataset_not_found"


def test_a_reader_that_goes_away_frees_the_stores_connection(
    server: Server, stored: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def endless(key: str, **_: object) -> Generator[bytes]:
        try:
            while True:
                yield bytes(16)  # too little to reach the length of the answer soon
        finally:
            closed.set()

    monkeypatch.setattr(server.store, "get", endless)
    with server.request("GET", f"/v1/datasets/{stored[0]}", stream=True) as response:
        response.raw.read(10)
        assert not closed.is_set()
    assert closed.wait(60)


def test_a_store_that_breaks_off_breaks_the_connection(server: Server, stored: tuple[str, bytes]) -> None:
    server.store.breaks = True
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        server.request("GET", f"/v1/datasets/{stored[0]}")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        server.request("GET", f"/v1/datasets/{stored[0]}?array=image")


def test_a_store_that_is_down_is_told_and_recovered_from(server: Server, stored: tuple[str, bytes]) -> None:
    calls = [
        ("GET", "/readyz", b""),
        ("POST", "/v1/datasets", hdf5_file(a=np.zeros(3))),
        ("GET", f"/v1/datasets/{stored[0]}", b""),
        ("GET", "/v1/algorithms", b""),
        ("GET", f"/v1/runs/{new_id()}", b""),
        ("GET", "/v1/runs", b""),
    ]
    server.store.down = True
    for method, path, data in calls:
        response = server.request(method, path, data=data)
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable"), path
        assert int(response.headers["Retry-After"]) >= 1
    assert server.request("GET", "/healthz").status_code == 200
    server.store.down = False
    for method, path, data in calls:
        assert server.request(method, path, data=data).status_code != 503


def test_a_large_upload_grows_memory_by_far_less(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (64, 1024, 1024)).flush()
    peak = resident_bytes()
    stop = threading.Event()
    peaks = [peak]

    def watch() -> None:
        while not stop.wait(0.002):
            peaks.append(resident_bytes())

    watcher = threading.Thread(target=watch)
    # The store of these tests is memory itself: what is measured ends where the store begins.
    server.store.down = True
    watcher.start()
    with path.open("rb") as file:
        response = server.request("POST", "/v1/datasets", data=file, headers={"Content-Type": "application/x-npy"})
    stop.set()
    watcher.join()
    assert response.status_code == 503
    assert max(peaks) - peak < 32 << 20


def resident_bytes() -> int:
    """Anonymous memory of this process: mapped files do not count."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) * 1024
