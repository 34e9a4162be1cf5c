"""What an author's code refers to and what is not there, or the other way round. Runs none of it."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Collection, Iterator, Mapping

from t3d_server.packages.arg_references import check_args
from t3d_server.packages.asset_references import check_assets
from t3d_server.packages.method_references import check_methods
from t3d_server.packages.static_check import parse

_GIVEN = {*dir(builtins), "__builtins__", "__file__", "__path__", "__module__", "__qualname__", "__annotations__"}
# With these a module can bind names that nobody sees in its text.
_BINDING_CALLS = {"exec", "eval", "globals", "vars"}


def check_references(
    files: Mapping[str, bytes], *, parameters: Collection[str], assets: Collection[str]
) -> Iterator[str]:
    """Look for references to what is not there.

    Args:
        files: content of each Python file by path; each can be parsed.
        parameters: names of the algorithm's parameters.
        assets: paths of all other files of the folder.

    Yields:
        A warning for each, as code may well never come there.
    """
    trees = {path: parse(content, path) for path, content in files.items()}
    for path, tree in trees.items():
        yield from _undefined_names(tree, files[path], path)
    yield from check_assets(trees, assets)
    if "Runner.py" in trees:
        yield from check_args(trees, parameters)
        yield from check_methods(trees)


def _undefined_names(tree: ast.Module, content: bytes, path: str) -> Iterator[str]:
    used = _names(tree, ast.Load)
    stars = any(
        alias.name == "*" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    )
    if stars or used.keys() & _BINDING_CALLS:
        return
    try:
        scopes = list(_scopes(symtable.symtable(content, path, "exec")))  # type: ignore[arg-type]  # bytes do
    except (SyntaxError, RecursionError):  # the import tells
        return
    bound = _GIVEN | {
        symbol.get_name()
        for scope in scopes
        for symbol in scope.get_symbols()
        if (symbol.is_assigned() or symbol.is_imported()) and (scope is scopes[0] or symbol.is_global())
    }
    missing = {
        symbol.get_name()
        for scope in scopes
        for symbol in scope.get_symbols()
        if symbol.is_referenced() and (scope is scopes[0] or symbol.is_global()) and symbol.get_name() not in bound
    }
    for name, line in used.items():
        if name in missing:
            yield f"{path}:{line}: {name} is used, but nothing defines or imports it"


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


def _names(tree: ast.AST, context: type[ast.expr_context]) -> dict[str, int]:
    """The line where each name is first used."""
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            lines[node.id] = min(node.lineno, lines.get(node.id, node.lineno))
    return lines
