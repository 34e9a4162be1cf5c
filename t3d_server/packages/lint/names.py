"""Check: every name that code uses is defined or imported."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator

from t3d_server.errors import Problem
from t3d_server.packages.lint.sources import Folder, Source

_GIVEN = {*dir(builtins), "__builtins__", "__file__", "__path__", "__module__", "__qualname__", "__annotations__"}
# With these a module can bind names that its text does not show.
_BINDING_CALLS = {"exec", "eval", "globals", "vars"}


def check_names(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each name that nothing binds, at its first use; the code may never get there."""
    for path, source in folder.sources.items():
        for name, line in _undefined(source):
            yield Problem(f"{path}:{line}", f"{name} is used, but nothing defines or imports it")


def _undefined(source: Source) -> Iterator[tuple[str, int]]:
    used: dict[str, int] = {}
    for node in source.nodes:
        match node:
            case ast.alias(name="*"):
                return
            case ast.Name(id=name, ctx=ast.Load()):
                used[name] = min(node.lineno, used.get(name, node.lineno))
    if used.keys() & _BINDING_CALLS:
        return
    try:
        scopes = list(_scopes(symtable.symtable(source.content, source.path, "exec")))  # type: ignore[arg-type]  # bytes do
    except (SyntaxError, RecursionError):  # the import shows it
        return
    # Each name that a scope shares with the module.
    symbols = [symbol for scope in scopes for symbol in scope.get_symbols() if scope is scopes[0] or symbol.is_global()]
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    missing = {symbol.get_name() for symbol in symbols if symbol.is_referenced()} - bound - _GIVEN
    yield from ((name, line) for name, line in used.items() if name in missing)


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)
