"""Imports that lead nowhere, and packages that the manifest does not name, are reported together, before any import."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from t3d_server.packages.lint.imports import check_imports
from tests.packages.lint.findings import findings

FOLDER = {
    "helper.py": "def smooth(): ...\nLEVELS = low, high = 1, 2",
    "net/__init__.py": "from .layers import Layer",
    "net/layers.py": "class Layer: ...",
    "bare/part.py": "x = 1",
    "files/table.py": "rows = []",
    "dynamic.py": "globals().update(a=1)",
}


def reported(code: str, path: str = "Runner.py", dependencies: Collection[str] = ()) -> list[str]:
    return findings(check_imports, FOLDER | {path: code}, dependencies=dependencies)


def test_all_imports_that_lead_nowhere_are_reported_at_once() -> None:
    code = """import helpers
import no_such_thing, net.layer
from net import layer
from helper import smoth as smooth
from bare import prt
def later():
    from .helper import smooth
    from . import net
"""
    assert reported(code) == [
        "Runner.py:2: the folder has no module 'net.layer'; did you mean 'net.layers'?",
        "Runner.py:3: net/ has no 'layer'; did you mean 'Layer'?",
        "Runner.py:4: helper.py has no 'smoth'; did you mean 'smooth'?",
        "Runner.py:5: bare/ has no 'prt'; did you mean 'part'?",
        "Runner.py:7: a relative import has no package to start from here; write `from helper import smooth`",
        "Runner.py:8: a relative import has no package to start from here; write `import net`",
        "Runner.py:1: the folder has no helpers.py, and no package 'helpers' is installed here; did you mean 'helper'?",
        "Runner.py:2: the folder has no no_such_thing.py, and no package 'no_such_thing' is installed here; "
        "what provides it has to be in [project] dependencies, and installed",
    ]


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("import helper, net.layers, bare.part, files.table, table", "Runner.py"),
        ("from helper import smooth, LEVELS, low, high", "Runner.py"),
        ("from net import layers, Layer\nfrom bare import part\nfrom helper import *", "Runner.py"),
        ("from dynamic import a", "Runner.py"),
        ("from .layers import Layer\nfrom . import layers\nimport helper", "net/more.py"),
        ("from ..layers import Layer\nfrom .. import layers, Layer", "net/more/__init__.py"),
        ("from algorithms.BaseRunner import BaseRunner\nimport algorithms.io_schemas", "Runner.py"),
        ("from algorithms.BaseRunner import BaseRunner", "algorithms/io_schemas.py"),
        ("try:\n    import cupy\nexcept ImportError:\n    import numpi", "Runner.py"),
        ("import sys\nsys.path.append('vendor')\nimport hidden", "Runner.py"),
        ("if 0:\n    import helpers\nwith suppress(ImportError):\n    import helpers", "Runner.py"),
    ],
)
def test_imports_that_work_or_are_optional_are_not_reported(code: str, path: str) -> None:
    assert reported(code, path) == []


@pytest.mark.parametrize(
    ("code", "dependencies", "warning"),
    [
        ("import torch", ["numpy"], "Runner.py:1: import torch: torch is missing in [project] dependencies"),
        (
            "import skimage.filters\nimport skimage",
            [],
            "Runner.py:1: import skimage: scikit-image is missing ",
        ),
        ("import torch, skimage.filters", ["Torch>=2", "scikit_image"], ""),
        ("import scipy", ["scikit-image"], ""),  # which needs it
        ("import numpy, PIL.Image, pydantic, h5py, ray, starlette", [], ""),  # the server's own
        ("import json, t3d_server.models", [], ""),
        ("import no_such_thing", ["no-such-thing"], ""),  # which `check_dependencies` reports
    ],
)
def test_installed_packages_have_to_be_dependencies(code: str, dependencies: list[str], warning: str) -> None:
    warnings = reported(code, dependencies=dependencies)
    assert len(warnings) == bool(warning)
    assert "".join(warnings).startswith(warning)
