"""Algorithms that several tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from t3d_server.client import Client
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.folder import scan


@pytest.fixture(scope="session")
def publish(client: Client) -> Callable[[Path], AlgorithmVersion]:
    """Publishes a folder, and removes nothing."""

    def publish(folder: Path) -> AlgorithmVersion:
        files, _ = scan(folder)
        return client.publish(files)

    return publish


@pytest.fixture(scope="session")
def cpu_only(write_algorithm: Callable[..., Path], publish: Callable[[Path], AlgorithmVersion]) -> AlgorithmVersion:
    """A published algorithm that runs on the CPU alone and goes idle."""
    return publish(write_algorithm("cpu-only"))
