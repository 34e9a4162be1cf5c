"""Whether the methods that an author's `Runner` calls on itself are there. Runs none of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from t3d_server import algorithm_utils
from t3d_server.packages.static_check import find_runner
from t3d_server.packages.wording import did_you_mean

# With these a class can have attributes that nobody sees in its text, or do without them.
_HIDING = {"__getattr__", "__getattribute__", "__dict__", "setattr", "vars", "exec", "eval", "AttributeError"}


def check_methods(trees: Mapping[str, ast.Module]) -> Iterator[str]:
    """Hold the calls of `self.name(...)` in `Runner` against what it has.

    Nothing is said where that is not certain: the class has bases that are not the server's, is itself a base, or its
    attributes may be set by other means than an assignment.

    Args:
        trees: syntax tree of each Python file by path; of `Runner.py`, too.

    Yields:
        A warning for each method that is not there.
    """
    runner = find_runner(trees["Runner.py"])
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    if runner is None or any(map(_hides, nodes)):
        return
    bases = _known_bases(runner, trees["Runner.py"])
    if not bases:
        return
    known = {*_bound(ast.walk(runner)), *(name for base in bases for name in dir(base))}
    # Those that code assigns to some object, or names in a text as for `hasattr`.
    set_somewhere = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    named = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = " or ".join(base.__name__ for base in bases)
    for line, called in _calls(runner):
        if called not in known | set_somewhere | named:
            hint = did_you_mean(called, sorted(name for name in known if not name.startswith("__")))
            yield f"Runner.py:{line}: self.{called} is called, but neither Runner nor {names} has it{hint}"


def _hides(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.FunctionDef(name=name):
            return name in _HIDING
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name | ast.Attribute) and _last(base) == "Runner" for base in bases)
    return False


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _known_bases(runner: ast.ClassDef, tree: ast.Module) -> list[type]:
    """The server's classes that it inherits from; none if it has others, too, or a decorator or metaclass."""
    imported = {
        alias.asname or alias.name: getattr(algorithm_utils, alias.name, None)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:2] == ["t3d_server", "algorithm_utils"]
        for alias in node.names
    }
    bound = list(_bound(ast.walk(tree)))
    bases = [imported.get(base.id) for base in runner.bases if isinstance(base, ast.Name) and bound.count(base.id) == 1]
    types = [base for base in bases if isinstance(base, type)]
    is_plain = len(types) == len(runner.bases) and not runner.decorator_list and not runner.keywords
    return types if is_plain and bound.count("Runner") == 1 else []


def _bound(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.alias(name=name, asname=asname):
                yield asname or name.split(".")[0]


def _calls(runner: ast.ClassDef) -> Iterator[tuple[int, str]]:
    for method in runner.body:
        if not isinstance(method, ast.FunctionDef) or method.decorator_list or not method.args.args:
            continue
        own = method.args.args[0]
        nodes = list(ast.walk(method))
        if any(
            (isinstance(node, ast.arg) and node.arg == own.arg and node is not own)
            or (isinstance(node, ast.Name) and node.id == own.arg and isinstance(node.ctx, ast.Store))
            for node in nodes
        ):
            continue
        for node in nodes:
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=called)) if name == own.arg:
                    yield node.lineno, called
