"""Check: the methods that `Runner` calls on itself are there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from t3d_server import algorithm_utils
from t3d_server.errors import Problem
from t3d_server.packages.lint.nodes import bound_names, positional, rebinds, server_imports
from t3d_server.packages.lint.sources import Folder, Source
from t3d_server.packages.wording import did_you_mean

# With these a class can have attributes that its text does not show, or do without them.
_HIDING = {"__getattr__", "__getattribute__", "__dict__", "setattr", "vars", "exec", "eval", "AttributeError"}


def check_methods(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each call of `self.name(...)` in `Runner` where it has no such method.

    None where that is not certain: the class has bases that are not the server's, is itself a base, or its attributes
    may be set by other means than an assignment.
    """
    runner = folder.runner
    bases = _known_bases(runner, folder.sources["Runner.py"]) if runner else []
    if not runner or not bases or any(map(_hides, folder.nodes)):
        return
    known = {*bound_names(ast.walk(runner)), *(name for base in bases for name in dir(base))}
    attributes = (node for node in folder.nodes if isinstance(node, ast.Attribute))
    # Also what code sets on any object, and what it names in a string, as for `hasattr`.
    possible = known | {node.attr for node in attributes if isinstance(node.ctx, ast.Store)} | folder.texts
    names = " or ".join(base.__name__ for base in bases)
    for line, called in _calls(runner):
        if called not in possible:
            hint = did_you_mean(called, sorted(name for name in known if not name.startswith("__")))
            yield Problem(f"Runner.py:{line}", f"self.{called} is called, but neither Runner nor {names} has it{hint}")


def _hides(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.FunctionDef(name=name):
            return name in _HIDING
        case ast.ClassDef(bases=bases):
            return any("Runner" in (getattr(base, "id", ""), getattr(base, "attr", "")) for base in bases)
    return False


def _known_bases(runner: ast.ClassDef, source: Source) -> list[type]:
    """The server's classes that it inherits from; none if it has others, too, or a decorator or metaclass."""
    imported = {own: getattr(algorithm_utils, name, None) for own, name in server_imports(source.tree.body)}
    bound = list(bound_names(source.nodes))
    bases = [imported.get(base.id) for base in runner.bases if isinstance(base, ast.Name) and bound.count(base.id) == 1]
    types = [base for base in bases if isinstance(base, type)]
    is_plain = len(types) == len(runner.bases) and not runner.decorator_list and not runner.keywords
    return types if is_plain and bound.count("Runner") == 1 else []


def _calls(runner: ast.ClassDef) -> Iterator[tuple[int, str]]:
    for method in runner.body:
        if not isinstance(method, ast.FunctionDef) or method.decorator_list or not positional(method):
            continue
        own = positional(method)[0].arg
        for node in [] if rebinds(method, own) else ast.walk(method):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=called)) if name == own:
                    yield node.lineno, called
