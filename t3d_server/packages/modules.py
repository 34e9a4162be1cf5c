"""The names by which the modules of an algorithm folder are imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import PurePosixPath

RESERVED = sys.stdlib_module_names | {"__main__", "t3d_server", "numpy", "pydantic", "ray"}
"""Top-level names that mean the same to everyone: those of Python, and what the server needs while author code runs."""


def module_names(paths: Iterable[str]) -> dict[str, str]:
    """Tell what a folder's code can import of the folder.

    Args:
        paths: `/`-separated paths of the folder's files; those that are no Python files do not matter.

    Returns:
        By dotted name, `net.layers`, the path of the module, or that of a package with a `/` at its end. What lies in
        `files` has two names, with and without `files.`.
    """
    names: dict[str, str] = {}
    for path in paths:
        if not path.endswith(".py"):
            continue
        parts = PurePosixPath(path.removesuffix(".py")).parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        for start in (0, 1) if parts[:1] == ("files",) else (0,):
            for end in range(start + 1, len(parts) + 1):
                place = "/".join(parts[:end])
                names.setdefault(".".join(parts[start:end]), path if f"{place}.py" == path else f"{place}/")
    return names
