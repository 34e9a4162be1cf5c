"""Check: no breakpoint was left in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from t3d_server.errors import Problem
from t3d_server.packages.lint.sources import Folder

_BREAKPOINTS = {"breakpoint", "set_trace"}
_MESSAGE = "a breakpoint: `t3d debug` stops there, but on a server nobody can go on from it"


def check_breakpoints(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each call that stops the program for a debugger."""
    for path, source in folder.sources.items():
        calls = [node for node in source.nodes if isinstance(node, ast.Call)]
        names = [(call.lineno, getattr(call.func, "id", getattr(call.func, "attr", ""))) for call in calls]
        yield from (Problem(f"{path}:{line}", _MESSAGE) for line, name in sorted(names) if name in _BREAKPOINTS)
