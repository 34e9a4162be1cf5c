"""Check: the methods of `Runner` whose value is used return one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from t3d_server.errors import Problem
from t3d_server.packages.lint.sources import Folder

# What ends by itself, but lets the code after it run; any other call may never come back.
_PASSING_CALLS = {"log_message", "set_progress", "print", "append"}


def check_returns(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each method that never returns a value, or has a branch that surely ends without one."""
    for method in folder.steps:
        returns = any(map(_gives, _walk(method.body)))
        is_generator = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(method))
        if _is_stub(method.body) or (returns and (is_generator or not _falls_off(method.body))):
            continue
        fault = "returns a value in some branches, and nothing in another" if returns else "returns nothing"
        yield Problem(f"Runner.py:{method.lineno}", f"{method.name} {fault}; is a `return` missing?")


def _is_stub(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in body
    )


def _walk(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a method but those of functions in it, which are others' business."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _gives(node: ast.AST) -> bool:
    """Whether it gives the caller a value."""
    return isinstance(node, ast.Yield | ast.YieldFrom) or (isinstance(node, ast.Return) and node.value is not None)


def _falls_off(body: list[ast.stmt]) -> bool:
    """Whether some way through these statements surely comes to their end. Where it is not sure: no.

    It is not for loops and `try` that may return, and not for several `if` that each return: they may be all the cases.
    """
    returning = 0
    for node in body:
        if isinstance(node, ast.If):
            branches = _branches(node)
            fallen = [_falls_off(branch) for branch in branches if branch]
            returning += fallen.count(False)
            if not any(fallen) and (branches[-1] or returning > 1):
                return False
        elif not _passes(node):
            return False
    return True


def _branches(node: ast.If) -> list[list[ast.stmt]]:
    """The branches of an `if` chain; the last one, of `else`, may be empty."""
    branches = [node.body]
    while len(node.orelse) == 1 and isinstance(more := node.orelse[0], ast.If):
        node = more
        branches.append(node.body)
    return [*branches, node.orelse]


def _passes(node: ast.stmt) -> bool:
    """Whether the code after a statement, no `if`, runs for sure, as far as its author can mean it to."""
    match node:
        case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called))):
            return called in _PASSING_CALLS
        case ast.Expr() | ast.FunctionDef() | ast.ClassDef():
            return True
        case ast.For() | ast.With():
            return not any(isinstance(each, ast.Return | ast.Raise) for each in ast.walk(node))
        case _:
            return False
