"""Fixtures of the whole suite: one embedded object store for the session, and a bucket in it."""

import uuid
from collections.abc import Iterator

import pytest

from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3ObjectStore


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A running embedded store; tests that stop or break one start their own."""
    with EmbeddedStore(tmp_path_factory.mktemp("store"), bucket=f"t3d-{uuid.uuid4().hex[:12]}") as store:
        yield store


@pytest.fixture(scope="session")
def s3_store(embedded_store: EmbeddedStore) -> S3ObjectStore:
    """A store on the session's bucket; use keys of your own, others use it too."""
    return S3ObjectStore(embedded_store.location)
