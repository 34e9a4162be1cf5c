"""Check: the keys of `args` that code reads are the parameters of the manifest."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from t3d_server.errors import Problem
from t3d_server.packages.lint.nodes import positional, rebinds
from t3d_server.packages.lint.sources import Folder
from t3d_server.packages.wording import did_you_mean

_READING = {"get", "items", "keys", "values", "copy"}


def check_args(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each key that is no parameter, and for each parameter that is never read."""
    readers = [(step, names[2].arg) for step in folder.steps if len(names := positional(step)) > 2]
    if any(_is_changed(method, name) for method, name in readers):
        return
    unknown = [found for method, name in readers for found in _keys(method, name) if found[1] not in folder.parameters]
    for line, key in unknown:
        known = f"{', '.join(folder.parameters) or 'none'}{did_you_mean(key, folder.parameters)}"
        yield Problem(f"Runner.py:{line}", f"{key!r} is no parameter, those are: {known}")
    # A key that is misspelt leaves its parameter unread: once is enough.
    if readers and not unknown and not _goes_elsewhere(readers, folder):
        for parameter in folder.parameters:
            if parameter not in folder.texts:
                fault = f"parameter {parameter!r} is never read by the code: it changes nothing"
                yield Problem("pyproject.toml", fault)


def _is_changed(method: ast.FunctionDef, name: str) -> bool:
    """Whether the name may stand for another value than the method was given, or that value be changed."""
    for node in ast.walk(method):
        match node:
            case ast.Subscript(value=ast.Name(id=found), ctx=ast.Store()) if found == name:
                return True
            case ast.Attribute(value=ast.Name(id=found), attr=attribute) if found == name and attribute not in _READING:
                return True
    return rebinds(method, name)


def _keys(method: ast.FunctionDef, name: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(method):
        match node:
            case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=str(key))) if found == name:
                yield node.lineno, key
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=found), attr="get"), args=[ast.Constant(value=str(key)), *_]
            ) if found == name:
                yield node.lineno, key


def _goes_elsewhere(readers: list[tuple[ast.FunctionDef, str]], folder: Folder) -> bool:
    """Whether keys may be read where no code of the folder names them: by a library, in a loop, as `**args`."""
    if any(isinstance(node, ast.keyword) and node.arg is None for node in folder.nodes):
        return True
    own = {node.name for node in folder.nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for method, name in readers:
        harmless: list[ast.expr] = []
        for node in ast.walk(method):
            match node:
                case ast.Subscript(value=value) | ast.Attribute(value=value, attr="get"):
                    harmless.append(value)
                case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in own:
                    harmless += [*node.args, *(keyword.value for keyword in node.keywords)]
        uses = [node for node in ast.walk(method) if isinstance(node, ast.Name) and node.id == name]
        if any(use not in harmless for use in uses):
            return True
    return False
