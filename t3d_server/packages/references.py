"""What an author's code refers to and what is not there: names, parameters, assets. Runs none of it."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath

from t3d_server.packages.static_check import parse
from t3d_server.packages.wording import did_you_mean

_GIVEN = {*dir(builtins), "__builtins__", "__file__", "__path__", "__module__", "__qualname__", "__annotations__"}
# With these a module can bind names that nobody sees in its text.
_BINDING_CALLS = {"exec", "eval", "globals", "vars"}
_WITH_ARGS = ("preprocess", "inference", "postprocess")
_READING = {"get", "items", "keys", "values", "copy"}


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
    for path, content in files.items():
        tree = parse(content, path)
        yield from _undefined_names(tree, content, path)
        yield from _missing_assets(tree, path, assets)
        if path == "Runner.py":
            yield from _unknown_args(tree, path, parameters)


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


def _missing_assets(tree: ast.Module, path: str, assets: Collection[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="fetch_asset"), args=[ast.Constant(value=str(asset)), *_]):
                if PurePosixPath(asset.replace("\\", "/")).as_posix() not in assets:
                    there = f"there is no such file in the folder{did_you_mean(asset, assets)}"
                    yield f"{path}:{node.lineno}: fetch_asset({asset!r}): {there}"


def _unknown_args(tree: ast.Module, path: str, parameters: Collection[str]) -> Iterator[str]:
    """Keys of `args` in the methods that are called with it, unless the code itself puts something there."""
    runner = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Runner"), None)
    methods = [node for node in runner.body if isinstance(node, ast.FunctionDef)] if runner else []
    found = []
    for method in methods:
        names = [argument.arg for argument in (*method.args.posonlyargs, *method.args.args)]
        if method.name not in _WITH_ARGS or len(names) < 3:
            continue
        if _is_changed(method, names[2]):
            return
        found += list(_keys(method, names[2]))
    for line, key in found:
        if key not in parameters:
            known = ", ".join(parameters) or "none"
            yield f"{path}:{line}: {key!r} is no parameter, those are: {known}{did_you_mean(key, parameters)}"


def _is_changed(method: ast.FunctionDef, name: str) -> bool:
    """Whether the name may stand for something else than what the method was given, or be changed."""
    for node in ast.walk(method):
        match node:
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return True
            case ast.arg(arg=found) if found == name and node not in (*method.args.posonlyargs, *method.args.args):
                return True
            case ast.Subscript(value=ast.Name(id=found), ctx=ast.Store()) if found == name:
                return True
            case ast.Attribute(value=ast.Name(id=found), attr=attribute) if found == name and attribute not in _READING:
                return True
    return False


def _keys(method: ast.FunctionDef, name: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(method):
        match node:
            case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=str(key))) if found == name:
                yield node.lineno, key
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=found), attr="get"), args=[ast.Constant(value=str(key)), *_]
            ) if found == name:
                yield node.lineno, key
