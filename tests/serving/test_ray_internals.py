"""What is not documented of Ray, where a test needs no cluster for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ray import cloudpickle
from ray.serve._private.config import DeploymentConfig

from t3d_server.serving.ray_internals import allow_unregistering_twice


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that take turns very often."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("eager_threads")
def test_configs_are_made_in_several_threads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, about one in seven fails here."""
    monkeypatch.setattr(cloudpickle, "unregister_pickle_by_value", cloudpickle.unregister_pickle_by_value)
    allow_unregistering_twice()
    with ThreadPoolExecutor(4) as threads:
        configs = list(threads.map(lambda _: DeploymentConfig(), range(100)))
    assert len(configs) == 100
