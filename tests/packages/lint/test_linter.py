"""The table holds every check, and findings come in the order that it gives."""

from __future__ import annotations

import importlib
import pkgutil

from t3d_server.packages import lint as package
from t3d_server.packages.lint.linter import CHECKS, lint
from t3d_server.packages.lint.sources import Folder, parse


def test_every_check_is_in_the_table_once() -> None:
    names = [f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    defined = [
        name
        for module in map(importlib.import_module, names)
        for name, value in vars(module).items()
        if name.startswith("check_") and value.__module__ == module.__name__
    ]
    assert sorted(check.__name__ for checks in CHECKS.values() for check in checks) == sorted(defined)


def test_errors_come_in_the_order_of_the_files() -> None:
    """Those of no single file come first."""
    files = {"A.py": b"(", "Runner.py": b"", "Runner/__init__.py": b"", "x.py": b")"}
    errors = lint(Folder(parse(files)), "errors")
    assert [error.key for error in errors] == ["Runner/", "A.py:1", "Runner.py", "x.py:1"]
