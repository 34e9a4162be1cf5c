"""Keys of the object store are written in one file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from t3d_server.storage import keys

ROOT = Path(keys.__file__).parents[1]
PREFIXES = tuple(value for value in vars(keys).values() if isinstance(value, str) and value.endswith("/"))
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT) != Path("storage/keys.py")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_writes_a_prefix(path: Path) -> None:
    texts = [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
    assert [text for text in texts if isinstance(text, str) and text.startswith(PREFIXES)] == []


def test_the_prefixes_are_those_of_the_built_keys() -> None:
    built = {
        keys.dataset_key("id"): "datasets/id.h5",
        keys.execution_key("id"): "executions/v0/id.json",
        keys.name_key("a.h5"): "names/v0/a.h5.json",
        keys.upload_key("a.h5", "id"): "uploads/v0/a.h5~id",
        keys.version_key("a", "1.0.0"): "algorithms/a/1.0.0.json",
        keys.tombstone_key("a", "1.0.0"): "algorithms/a/1.0.0.removed",
        keys.current_key("a"): "algorithms/a/current.json",
        keys.module_key("f00"): "modules/f00.zip",
        keys.asset_key("f00"): "assets/f00",
        keys.blob_key("f00"): "blobs/f00",
    }
    assert list(built) == list(built.values())


def test_the_documented_list_is_the_same() -> None:
    section = (ROOT.parent / "docs" / "architecture.md").read_text("utf-8").split("## Object keys")[1]
    assert keys.__doc__ is not None
    documented = section.split("```")[1].strip().splitlines()
    assert [line.strip() for line in keys.__doc__.split("\n\n")[1].splitlines()] == documented
