"""Which parameters an author's code reads, and whether they are those of the manifest. Runs none of it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping

from t3d_server.packages.static_check import find_runner
from t3d_server.packages.wording import did_you_mean

_WITH_ARGS = ("preprocess", "inference", "postprocess")
_READING = {"get", "items", "keys", "values", "copy"}


def check_args(trees: Mapping[str, ast.Module], parameters: Collection[str]) -> Iterator[str]:
    """Hold the keys of `args` that code reads against the parameters.

    Args:
        trees: syntax tree of each Python file by path; of `Runner.py`, too.
        parameters: names of the algorithm's parameters.

    Yields:
        A warning for each key that is no parameter, and for each parameter that is never read.
    """
    methods = list(_methods(trees["Runner.py"]))
    if any(_is_changed(method, name) for method, name in methods):
        return
    unknown = [found for method, name in methods for found in _keys(method, name) if found[1] not in parameters]
    for line, key in unknown:
        known = ", ".join(parameters) or "none"
        yield f"Runner.py:{line}: {key!r} is no parameter, those are: {known}{did_you_mean(key, parameters)}"
    # A key that is misspelt leaves its parameter unread: once is enough.
    if methods and not unknown and not _goes_elsewhere(methods, trees):
        texts = {node.value for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for parameter in parameters:
            if parameter not in texts:
                yield f"pyproject.toml: parameter {parameter!r} is never read by the code: it changes nothing"


def _methods(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str]]:
    """The methods that are called with `args`, and how each names it."""
    runner = find_runner(tree)
    for method in runner.body if runner else []:
        if isinstance(method, ast.FunctionDef) and method.name in _WITH_ARGS:
            names = [argument.arg for argument in (*method.args.posonlyargs, *method.args.args)]
            if len(names) > 2:
                yield method, names[2]


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


def _goes_elsewhere(methods: Collection[tuple[ast.FunctionDef, str]], trees: Mapping[str, ast.Module]) -> bool:
    """Whether keys may be read where no code of the folder names them: by a library, in a loop, as `**args`."""
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    if any(isinstance(node, ast.keyword) and node.arg is None for node in nodes):
        return True
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for method, name in methods:
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
