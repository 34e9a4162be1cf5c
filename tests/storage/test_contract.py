"""What every object store does, whatever stands behind it."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError
from t3d_server.storage.base import ObjectStore, exists, read
from t3d_server.storage.s3 import S3ObjectStore

RawGet = Callable[[str], bytes | None]


def test_bytes_come_back_and_others_see_them(store: ObjectStore, folder: str, raw_get: RawGet) -> None:
    store.put(folder + "k", b"content")
    assert read(store, folder + "k") == raw_get(folder + "k") == b"content"
    found = store.stat(folder + "k")
    assert (found.key, found.size_bytes) == (folder + "k", 7)
    assert abs((datetime.now(UTC) - found.stored_at).total_seconds()) < 60
    store.put(folder + "k", b"another")
    assert store.stat(folder + "k").etag != found.etag


def test_a_file_is_stored_from_its_position(store: ObjectStore, folder: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"header" + bytes(range(256)) * 10_000)
    with path.open("rb") as file:
        file.seek(6)
        store.put(folder + "k", file)
    assert read(store, folder + "k") == bytes(range(256)) * 10_000


class _Pipe(io.BytesIO):
    """A stream that cannot tell its length."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("size", [0, 3, (16 << 20) + 1, 40 << 20])
def test_a_stream_of_unknown_length_is_stored_whole(store: ObjectStore, folder: str, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    store.put(folder + "k", _Pipe(content))
    assert read(store, folder + "k") == content


def test_a_stream_that_fails_stores_nothing(store: ObjectStore, folder: str, raw_get: RawGet) -> None:
    class Failing(_Pipe):
        def read(self, size: int | None = -1, /) -> bytes:
            chunk = super().read(size)
            if not chunk or size in (-1, None):
                raise OSError("the disk is gone")
            return chunk

    with pytest.raises(OSError, match="the disk is gone"):
        store.put(folder + "k", Failing(bytes(40 << 20)))
    assert raw_get(folder + "k") is None
    assert list(store.list(folder)) == []
    if isinstance(store, S3ObjectStore):
        half = store._client._list_multipart_uploads(store.location.bucket, prefix=folder)
        assert half.uploads == []


def test_an_empty_object_is_an_object(store: ObjectStore, folder: str) -> None:
    store.put(folder + "k", b"")
    assert store.stat(folder + "k").size_bytes == 0
    assert read(store, folder + "k") == b""
    assert list(store.get(folder + "k", offset=0, length=10)) == []


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, 0), (0, 1), (3, 4), (9, 1), (0, 10), (0, 100), (9, 100), (10, 1), (10, None), (50, 5), (4, None)],
)
def test_a_range_is_cut_at_the_end(store: ObjectStore, folder: str, offset: int, length: int | None) -> None:
    content = b"0123456789"
    store.put(folder + "k", content)
    expected = content[offset:] if length is None else content[offset : offset + length]
    assert b"".join(store.get(folder + "k", offset=offset, length=length)) == expected


def test_a_put_replaces(store: ObjectStore, folder: str, raw_get: RawGet) -> None:
    store.put(folder + "k", b"a longer first")
    store.put(folder + "k", b"second")
    assert read(store, folder + "k") == raw_get(folder + "k") == b"second"


def test_a_missing_key_shows_before_the_first_chunk(store: ObjectStore, folder: str) -> None:
    key = folder + "missing"
    for read_it in (
        lambda: store.get(key),
        lambda: store.get(key, offset=5),
        lambda: store.get(key, length=0),
        lambda: store.stat(key),
    ):
        with pytest.raises(ObjectNotFoundError, match=key):
            read_it()
    assert not exists(store, key)


def test_delete_removes_and_forgives_what_is_gone(store: ObjectStore, folder: str, raw_get: RawGet) -> None:
    store.put(folder + "k", b"x")
    store.delete(folder + "k")
    store.delete(folder + "k")
    assert raw_get(folder + "k") is None


def test_delete_removes_many_and_forgives_those_that_are_gone(store: ObjectStore, folder: str) -> None:
    odd = [f"{folder}{name}" for name in ("a b", "ü", "q'\"<>&", "100%", "x#y?z")]
    for key in [*odd, f"{folder}stays"]:
        store.put(key, b"x")
    store.delete(*odd, f"{folder}missing", f"{folder}in/no/folder")
    assert [stat.key for stat in store.list(folder)] == [f"{folder}stays"]


def test_delete_removes_more_than_one_request_can(store: ObjectStore, folder: str) -> None:
    """S3 takes 1000 keys in one."""
    keys = [f"{folder}{number:04}" for number in range(1001)]
    for key in keys[0], keys[999], keys[1000]:
        store.put(key, b"x")
    store.delete(*keys)
    assert list(store.list(folder)) == []


def test_deleting_nothing_is_no_error(store: ObjectStore) -> None:
    store.delete()


@pytest.mark.parametrize("name", ["a b", "ü/ö", "a+b", "100%", "a%20b", "x#y?z&w=1", "q'\"<>", "~é🙂", "a.b~c~d", "é"])
def test_odd_keys_are_kept_as_they_are(store: ObjectStore, folder: str, name: str, raw_get: RawGet) -> None:
    key = folder + name
    store.put(key, name.encode())
    assert read(store, key) == raw_get(key) == name.encode()
    assert [stat.key for stat in store.list(key)] == [key]
    store.delete(key)
    assert not exists(store, key)


def test_listing_is_ordered_over_pages(store: ObjectStore, folder: str) -> None:
    """1100 keys are more than a page of S3; a prefix may end within a name."""
    keys = [f"{folder}n-{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), reversed(keys)))
    store.put(f"{folder}other", b"12")
    assert [stat.key for stat in store.list(folder)] == [*keys, f"{folder}other"]
    assert [stat.key for stat in store.list(f"{folder}n-10")] == keys[1000:]
    assert [stat.key for stat in store.list(f"{folder}n-", start_after=keys[1094])] == keys[1095:]
    assert [stat.key for stat in store.list(folder, start_after=f"{folder}n-1094~")] == [*keys[1095:], f"{folder}other"]
    assert list(store.list(folder, start_after=f"{folder}z")) == []
    assert [(stat.key, stat.size_bytes) for stat in store.list(f"{folder}o")] == [(f"{folder}other", 2)]


def test_listing_descends_into_folders(store: ObjectStore, folder: str) -> None:
    keys = {folder + name for name in ("a/1", "a/2/x", "a-b/1", "c")}
    for key in keys:
        store.put(key, b"")
    assert {stat.key for stat in store.list(folder)} == keys
    assert {stat.key for stat in store.list(folder + "a/")} == {folder + "a/1", folder + "a/2/x"}


def test_if_absent_lets_exactly_one_writer_win(
    store: ObjectStore, folder: str, raw_get: RawGet, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["store"] == "minio":
        pytest.xfail("`juicefs gateway` takes no notice of If-None-Match")
    for race in range(2):
        key = f"{folder}{race}"
        start = threading.Barrier(16)

        def write(number: int, key: str = key, start: threading.Barrier = start) -> int | None:
            start.wait()
            try:
                store.put(key, io.BytesIO(str(number).encode()), if_absent=True)
            except ObjectExistsError:
                return None
            return number

        with ThreadPoolExecutor(16) as pool:
            winners = [number for number in pool.map(write, range(16)) if number is not None]
        assert [str(number).encode() for number in winners] == [raw_get(key)]


def test_threads_do_not_mix_up_contents(store: ObjectStore, folder: str) -> None:
    def round_trip(number: int) -> bool:
        content = str(number).encode() * 50_000
        store.put(f"{folder}{number}", content)
        return read(store, f"{folder}{number}") == content

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(64)))


def test_readers_see_a_whole_object_while_it_is_replaced(store: ObjectStore, folder: str) -> None:
    versions = [bytes([number]) * (1 << 20) for number in range(3)]
    store.put(folder + "k", versions[0])
    done = threading.Event()

    def watch() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(read(store, folder + "k"))
        return seen

    with ThreadPoolExecutor(2) as pool:
        watchers = [pool.submit(watch) for _ in range(2)]
        for number in range(12):
            store.put(folder + "k", versions[number % 3])
        done.set()
    assert all(watcher.result() <= set(versions) for watcher in watchers)
