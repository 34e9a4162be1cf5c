"""Check: no module of the folder takes the name of another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from t3d_server.errors import Problem
from t3d_server.packages.distributions import installed_package
from t3d_server.packages.lint.sources import Folder
from t3d_server.packages.modules import RESERVED, module_names


def check_module_names(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each module by whose name other code, or the author, may mean another one."""
    for name, path in module_names(folder.sources).items():
        if "." in name or name == "__main__":  # which nobody imports
            continue
        if name in RESERVED:
            whose = "module of Python's library" if name in sys.stdlib_module_names else "one that the server needs"
            yield Problem(path, f"`import {name}` gives the {whose}, not this one; rename it")
        elif package := installed_package(name):
            yield Problem(path, f"hides the installed package {package} from all code of the algorithm; rename it")
