"""What only the S3 store does: connections, time-outs, broken streams, pickling."""

import logging
import pickle
import select
import socket
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from t3d_server.errors import StoreUnavailableError
from t3d_server.storage.base import exists, read
from t3d_server.storage.s3 import S3Location, S3ObjectStore


@pytest.fixture
def key() -> str:
    return f"test-s3/{uuid.uuid4()}"


@contextmanager
def _cutting_proxy(endpoint: str, *, up_bytes: int = 1 << 40, down_bytes: int = 1 << 40) -> Iterator[str]:
    """An endpoint in front of another that drops each connection after so many bytes of a direction."""
    host, port = endpoint.split(":")

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as server:
            left = {client: up_bytes, server: down_bytes}
            other = {client: server, server: client}
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(min(1 << 16, left[source]))
                    if not data:
                        return
                    other[source].sendall(data)
                    left[source] -= len(data)
                    if not left[source]:
                        return

    def accept() -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_body_that_breaks_off_is_never_taken_for_the_whole(s3_store: S3ObjectStore, key: str) -> None:
    s3_store.put(key, bytes(8 << 20))
    with _cutting_proxy(s3_store.location.endpoint, down_bytes=5 << 20) as endpoint:
        chunks = S3ObjectStore(replace(s3_store.location, endpoint=endpoint)).get(key)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            list(chunks)


@pytest.mark.parametrize("if_absent", [False, True])
def test_an_upload_that_breaks_off_stores_nothing(s3_store: S3ObjectStore, key: str, if_absent: bool) -> None:
    with _cutting_proxy(s3_store.location.endpoint, up_bytes=5 << 20) as endpoint:
        store = S3ObjectStore(replace(s3_store.location, endpoint=endpoint))
        with pytest.raises(StoreUnavailableError):
            store.put(key, bytes(8 << 20), if_absent=if_absent)
    assert not exists(s3_store, key)


def test_abandoned_reads_free_their_connections(s3_store: S3ObjectStore, key: str) -> None:
    s3_store.put(key, bytes(8 << 20))
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        chunks = s3_store.get(key)
        next(chunks)
        chunks.close()
        s3_store.get(key).close()
    assert len(list(descriptors.iterdir())) <= before + 1


def test_large_objects_pass_through_little_memory(s3_store: S3ObjectStore, key: str, tmp_path: Path) -> None:
    """300 MB up from a file and down again, within 8 MB."""
    size = 300_000_000
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            s3_store.put(key, file)
        assert sum(map(len, s3_store.get(key))) == size
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
        s3_store.delete(key)


def test_a_silent_store_is_given_up_after_one_time_out(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        store = S3ObjectStore(S3Location(endpoint, "a", "b" * 8, "bucket", secure=False), read_timeout_s=0.2)
        calls: list[Callable[[], object]] = [
            lambda: store.put(key, b"x"),
            lambda: store.get(key),
            lambda: list(store.list("")),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match=f"{endpoint}.*timed out"):
                call()
        silent.setblocking(False)
        for _ in calls:
            silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # no second try
            silent.accept()


@pytest.mark.parametrize(
    ("change", "answer"),
    [({"secret_key": "wrong-secret"}, "SignatureDoesNotMatch"), ({"bucket": "no-such-bucket"}, "NoSuchBucket")],
)
def test_wrong_settings_are_named(s3_store: S3ObjectStore, key: str, change: dict[str, str], answer: str) -> None:
    store = S3ObjectStore(replace(s3_store.location, **change))  # type: ignore[arg-type]  # each field is a str
    for call in (lambda: store.put(key, b"x"), lambda: store.get(key)):
        with pytest.raises(StoreUnavailableError, match=f"{store.location.bucket}.*{answer}"):
            call()


def test_a_pickled_copy_reaches_the_same_bucket(s3_store: S3ObjectStore, key: str) -> None:
    copy = pickle.loads(pickle.dumps(s3_store))
    copy.put(key, b"x")
    assert read(s3_store, key) == b"x"


def test_the_secret_is_not_shown() -> None:
    location = S3Location("host:1", "access", "sesame", "bucket")
    assert "sesame" not in f"{location} {location!r}"


def test_prepare_is_repeatable_and_warns_only_of_a_store_without_conditions(
    s3_store: S3ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    before = {stat.key for stat in s3_store.list("probes/")}  # servers that were killed on this store leave some
    with caplog.at_level(logging.WARNING, logger="t3d_server"):
        s3_store.prepare()
    assert [record for record in caplog.records if record.name.startswith("t3d_server")] == []
    assert {stat.key for stat in s3_store.list("probes/")} <= before


def test_prepare_has_unfinished_uploads_removed_unless_the_bucket_has_rules(s3_store: S3ObjectStore) -> None:
    bucket, client = s3_store.location.bucket, s3_store._client

    def rules() -> list[Rule]:
        config = client.get_bucket_lifecycle(bucket)
        return config.rules if config else []

    s3_store.prepare()
    assert [rule.abort_incomplete_multipart_upload is None for rule in rules()] == [False]
    theirs = LifecycleConfig([Rule(ENABLED, Filter(prefix="other/"), "theirs", expiration=Expiration(days=9))])
    client.set_bucket_lifecycle(bucket, theirs)
    s3_store.prepare()
    assert [rule.rule_id for rule in rules()] == ["theirs"]
    client.delete_bucket_lifecycle(bucket)


@pytest.mark.juicefs
def test_prepare_warns_of_a_store_without_conditions(
    minio_store: S3ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    minio_store.prepare()
    assert "only one t3d_server cluster may use the bucket 'contract'" in caplog.text
