"""The stores that the contract suite runs on, with raw access that bypasses them."""

import os
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error

from t3d_server.errors import StoreUnavailableError
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.memory import MemoryObjectStore
from t3d_server.storage.s3 import S3Location, S3ObjectStore
from tests.conftest import own_ports

RawGet = Callable[[str], bytes | None]


@pytest.fixture(scope="session")
def minio_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3ObjectStore]:
    """A bucket behind MinIO's own S3 front end (`juicefs gateway`)."""
    juicefs = str(Path(sysconfig.get_path("scripts")) / "juicefs")
    directory = tmp_path_factory.mktemp("juicefs")
    meta = f"sqlite3://{directory}/meta.db"
    endpoint = f"127.0.0.1:{own_ports(1)[0]}"
    with (directory / "log").open("wb") as log:
        subprocess.run(
            [juicefs, "format", "--storage=file", f"--bucket={directory}/data/", "--trash-days=0", meta, "t3d"],
            check=True, stdout=log, stderr=log,
        )  # fmt: skip
        gateway = subprocess.Popen(
            [juicefs, "gateway", "--multi-buckets", "--keep-etag", "--no-banner", "--backup-meta=0",
             f"--log={directory}/gateway.log", f"--cache-dir={directory}/cache", meta, endpoint],
            env={**os.environ, "MINIO_ROOT_USER": "contract", "MINIO_ROOT_PASSWORD": "contract-secret"},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        store = S3ObjectStore(S3Location(endpoint, "contract", "contract-secret", "contract", secure=False))
        deadline = time.monotonic() + 60
        while True:
            try:
                store.prepare()
                break
            except StoreUnavailableError:
                assert gateway.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield store
    finally:
        gateway.terminate()
        gateway.wait()


@pytest.fixture(params=["memory", "s3", pytest.param("minio", marks=pytest.mark.juicefs)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each kind of store."""
    if request.param == "memory":
        return MemoryObjectStore()
    found: S3ObjectStore = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def folder() -> str:
    """A prefix that no other test uses."""
    return f"{uuid.uuid4()}/"


@pytest.fixture
def raw_get(store: ObjectStore) -> RawGet:
    """Content of a key as another client sees it, None where there is none."""
    if not isinstance(store, S3ObjectStore):
        return lambda key: store._objects.get(key)  # type: ignore[attr-defined]  # that is the point of it
    location = store.location
    client = Minio(
        location.endpoint, location.access_key, location.secret_key, region=location.region, secure=location.secure
    )

    def get(key: str) -> bytes | None:
        try:
            with client.get_object(location.bucket, key) as response:
                return response.read()
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return None

    return get
