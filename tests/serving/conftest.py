"""Algorithm folders written by tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from t3d_server.client import Client
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.folder import scan

RUNNER = """
from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        return data
"""


@pytest.fixture(scope="session")
def write_algorithm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an algorithm folder; `table` is what stands under `[tool.t3dserver]`."""

    def write(
        name: str, runner: str = RUNNER, *, version: str = "1.0.0", table: str = "", files: dict[str, str] | None = None
    ) -> Path:
        folder = tmp_path_factory.mktemp("algorithm") / name
        manifest = f'[project]\nname = "{name}"\nversion = "{version}"\n\n[tool.t3dserver]\n{table}\n'
        for path, text in {"Runner.py": runner, "pyproject.toml": manifest, **(files or {})}.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return folder

    return write


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
