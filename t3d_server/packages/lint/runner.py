"""Check: `Runner.py` has a `Runner` whose methods the server can call."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from t3d_server.errors import Problem
from t3d_server.packages.lint.nodes import positional, top_level
from t3d_server.packages.lint.sources import STEPS, Folder

# Arguments beside `self`.
_METHODS = {"__init__": 0, "load_assets": 0, **dict.fromkeys(STEPS, 2)}


def check_runner(folder: Folder) -> Iterator[Problem]:
    """Yield an error where there is no `Runner`, where it has no base, and for each method that cannot be called."""
    if "Runner/__init__.py" in folder.sources:
        yield Problem("Runner/", "would be imported in place of Runner.py; rename it")
    source, runner = folder.sources["Runner.py"], folder.runner
    if source.error:
        return
    if runner is None:
        # Imported or computed: only the import can show what it is.
        if not any("Runner" in _bound_names(node) for node in top_level(source.tree.body)):
            yield Problem("Runner.py", "defines no class named Runner")
        return
    if not [base for base in runner.bases if not (isinstance(base, ast.Name) and base.id == "object")]:
        yield Problem(
            f"Runner.py:{runner.lineno}",
            "class Runner inherits from nothing; it must inherit from BaseRunner or the class of its type, "
            "such as t3d_server.algorithm_utils.Image2ImageRunner",
        )
    for node in runner.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _METHODS:
            yield from (Problem(f"Runner.py:{node.lineno}", f"{node.name} {fault}") for fault in _faults(node))


def _faults(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    if isinstance(method, ast.AsyncFunctionDef):
        yield "is `async def`; it is called in a thread of its own: write `def`"
    decorators = {node.id for node in method.decorator_list if isinstance(node, ast.Name)}
    given = _METHODS[method.name] + ("staticmethod" not in decorators)
    arguments, count = method.args, len(positional(method))
    required = count - len(arguments.defaults)
    if required > given or (count < given and arguments.vararg is None) or None in arguments.kw_defaults:
        expected = "self, data, args" if _METHODS[method.name] else "self"
        yield f"is called as {method.name}({expected}), but is defined with ({ast.unparse(arguments)})"


def _bound_names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {alias.asname or alias.name for alias in node.names}
        return {"Runner"} if "*" in names else names
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
