"""Algorithm folders for the tests of packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from t3d_server.algorithm_utils.tags import load_tags

MANIFEST = '[project]\nname = "foo"\nversion = "1.0.0"\n'
RUNNER = """
from t3d_server.algorithm_utils import BaseRunner

class Runner(BaseRunner):
    def preprocess(self, input_data, args): ...
    def inference(self, data, args): ...
    def postprocess(self, inference_output, args): return []
"""

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes an algorithm folder: a minimal sound one, with the given files added, replaced or (None) left out."""

    def make(files: Mapping[str, str | bytes | None] | None = None, name: str = "algorithm") -> Path:
        for path, content in ({"pyproject.toml": MANIFEST, "Runner.py": RUNNER} | dict(files or {})).items():
            if content is not None:
                target = tmp_path / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def tags() -> dict[str, dict[str, str]]:
    return load_tags()
