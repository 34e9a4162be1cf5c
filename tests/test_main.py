"""The store of a local server is kept running."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from t3d_server.main import _kept_running
from t3d_server.storage.embedded import EmbeddedStore


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # nothing tells when another process's child has started


def test_a_store_that_cannot_be_started_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It comes back where clients know it, as soon as what kept it from starting is gone."""
    with EmbeddedStore(tmp_path) as store, _kept_running(store):
        endpoint = store.location.endpoint
        obstacle = tmp_path / "grpc.crt"
        obstacle.unlink()
        obstacle.mkdir()
        assert store.pid is not None
        os.kill(store.pid, signal.SIGTERM)
        wait_until(lambda: caplog.text.count("it is tried again") > 1)
        obstacle.rmdir()
        wait_until(store.is_running)
        assert store.location.endpoint == endpoint
