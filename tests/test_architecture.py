"""Imports run one way, libraries are fenced in, and light packages stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "t3d_server"

MAY_IMPORT = {
    "errors": set(),
    "clock": set(),
    "ids": set(),
    "models": {"errors"},
    "run_log": {"models"},
    "algorithm_utils": {"models", "errors"},
    "storage": {"models", "errors", "ids", "clock"},
    "datasets": {"storage", "algorithm_utils", "models", "errors", "ids"},
    "packages": {"storage", "algorithm_utils", "models", "errors", "ids"},
    "run_store": {"storage", "models", "errors", "ids", "clock", "run_log"},
    "runs": {"run_store", "packages", "storage", "models", "errors", "ids", "clock", "run_log"},
    "execution": {"runs", "packages", "algorithm_utils", "models", "errors", "ids", "clock", "run_log"},
    "api": {"runs", "run_store", "datasets", "packages", "storage", "models", "errors", "ids", "run_log"},
    "serving": {
        "api", "execution", "runs", "run_store", "datasets", "packages", "storage", "algorithm_utils", "models",
        "errors", "ids", "clock", "run_log",
    },
    "settings": {"packages", "errors"},
    "discovery": {"errors"},
    "client": {"discovery", "datasets", "models", "errors", "ids"},
    "handles": {"client", "serving", "datasets", "algorithm_utils", "models", "errors"},
    "main": {
        "settings", "serving", "api", "runs", "run_store", "algorithm_utils", "datasets", "storage", "errors",
        "discovery",
    },
    "local": {"execution", "runs", "datasets", "packages", "storage", "models", "errors", "ids"},
    "testing": {"local", "packages", "algorithm_utils", "models", "errors"},
    "scaffold": {"algorithm_utils", "testing"},
    "picture": {"algorithm_utils", "views"},
    "views": {"algorithm_utils"},
    "cli": None,  # the top: anything
}  # fmt: skip
"""What each part of the package may import of it."""

FENCES = {
    "ray": {"serving", "main.py", "handles.py"},
    "ray._private": {"serving/ray_internals.py"},
    "ray.serve._private": {"serving/ray_internals.py"},
    "fastapi": {"api"},
    "fastapi.dependencies": {"api/fastapi_internals.py"},
    "fastapi.sse": {"api/fastapi_internals.py"},
    "starlette": {"api"},
    "uvicorn": {"api/v0/listener.py"},
    "minio": {"storage/s3.py"},
    "urllib3": {"storage/s3.py", "client/transport.py"},
    "h5py": {"datasets/entries.py", "datasets/hdf5.py", "datasets/inspection.py"},
    "tifffile": {"datasets/formats/tiff.py"},
    "PIL": {"datasets/formats/pillow.py", "datasets/formats/png.py", "datasets/formats/jpeg.py", "picture.py"},
    "python_minifier": {"packages/minify.py"},
    "requests": {"client/transport.py", "client/answers.py"},
    "typer": {"cli"},
    "rich": {"cli"},
    "pydantic_settings": {"settings.py"},
    "dotenv": {"settings.py"},
    "uuid_utils": {"ids.py"},
    "watchfiles": {"cli/watching.py"},
}
"""Where each library, or one part of it, may be imported."""


PRIVATE_IN_RAY = {
    "_actor_id", "_blocking", "_by_reference", "_internal", "_node_ip_address", "_run", "metrics_interval_s",
    "pickle_by_value", "unregister_pickle_by_value", "DeploymentHandle",
}  # fmt: skip
"""Names of Ray that it does not document, or deprecates; as attributes, arguments or keys."""


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part_of(path: Path) -> str:
    """The layer of a file: its sub-package, or its own name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way_and_libraries_stay_behind_their_fences(path: Path) -> None:
    part = part_of(path)
    faults = []
    for module in imports(path):
        top, _, rest = module.partition(".")
        if top == "t3d_server" and part != "__init__":
            target = rest.partition(".")[0]
            allowed = MAY_IMPORT[part]
            if target and target != part and allowed is not None and target not in allowed:
                faults.append(f"{part} must not import {target}")
        relative = str(path.relative_to(ROOT))
        for library, places in FENCES.items():
            fenced = module == library or module.startswith(f"{library}.")
            if fenced and not any(relative == place or relative.startswith(f"{place}/") for place in places):
                faults.append(f"{library} belongs in {', '.join(sorted(places))}")
    assert not faults


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if part_of(path) in ("serving", "main", "handles") and path.name != "ray_internals.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_undocumented_names_of_ray_are_in_one_file(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) | ast.alias(name=name):
                names.add(name)
            case ast.Constant(value=str(text)):
                names |= {text} | {part for part in ("SERVE_REPLICA::", "__internal_head__") if part in text}
    assert not names & (PRIVATE_IN_RAY | {"SERVE_REPLICA::", "__internal_head__"})


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("t3d_server.algorithm_utils", ["ray", "minio", "fastapi", "h5py", "torch", "requests"]),
        ("t3d_server.client", ["ray", "fastapi", "torch", "minio"]),
        ("t3d_server", ["ray", "requests", "numpy"]),
    ],
)
def test_importing_a_light_module_loads_nothing_heavy(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
