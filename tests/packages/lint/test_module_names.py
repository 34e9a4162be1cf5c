"""Modules that take the names of others are reported."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from t3d_server.packages.lint.module_names import check_module_names
from tests.packages.lint.findings import findings


@pytest.mark.parametrize(
    ("paths", "warning"),
    [
        (["utils_of_mine.py", "net/a.py", "files/shapes.py"], ""),
        (["numpy.py"], "numpy.py: `import numpy` gives the one that the server needs, not this one; rename it"),
        (["PIL/a.py", "PIL/b.py"], f"PIL/: hides the installed package pillow {version('pillow')}"),
        (["files/random.py"], "files/random.py: `import random` gives the module of Python's library"),
        (["t3d_server/a.py"], "t3d_server/: `import t3d_server` gives the one that the server needs"),
    ],
)
def test_names_of_other_modules_are_reported(paths: list[str], warning: str) -> None:
    warnings = findings(check_module_names, dict.fromkeys(["Runner.py", *paths], ""))
    assert len(warnings) == bool(warning)
    assert "".join(warnings).startswith(warning)
