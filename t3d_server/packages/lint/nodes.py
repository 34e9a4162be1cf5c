"""What several checks ask of a syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, also those under `if`, `try` and `with`; an `elif` is one in an `else`."""
    waiting = body[::-1]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            handled = [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
            below = [*node.body, *getattr(node, "orelse", []), *handled, *getattr(node, "finalbody", [])]
            waiting += below[::-1]


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that these nodes bind, `*` among them; nodes below them are left alone."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.alias(name=name, asname=asname):
                yield asname or name.partition(".")[0]


def server_imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """What these nodes import from `t3d_server.algorithm_utils`: the name here, and the name there."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:2] == ["t3d_server", "algorithm_utils"]:
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)


def positional(method: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """The arguments of a method that are given by position, `self` among them."""
    return [*method.args.posonlyargs, *method.args.args]


def rebinds(method: ast.FunctionDef, name: str) -> bool:
    """Whether the name of an argument stands for another value somewhere in the method."""
    own = positional(method)
    return any(
        (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.arg) and node.arg == name and node not in own)
        for node in ast.walk(method)
    )
