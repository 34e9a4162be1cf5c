"""Which modules an author's code imports, and whether they are there and named in the manifest. Runs none of it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath

from t3d_server.packages.distributions import is_installed, is_named, undeclared
from t3d_server.packages.modules import module_names
from t3d_server.packages.static_check import parse
from t3d_server.packages.wording import did_you_mean, not_found

# With a standard library, the server and its old name, which is filled in (`isolation`).
_ALWAYS_THERE = sys.stdlib_module_names | {"t3d_server", "algorithms"}
# With these a module can have names that nobody sees in its text.
_BINDING = {"exec", "eval", "globals", "vars", "__getattr__", "setattr"}

Import = ast.Import | ast.ImportFrom


def check_imports(files: Mapping[str, bytes], dependencies: Collection[str], *, where: str) -> Iterator[str]:
    """Hold the imports of code against the folder, what is installed, and what the manifest names.

    Imports under a condition are left alone: that code knows how to do without.

    Args:
        files: content of each Python file by path; each can be parsed.
        dependencies: requirements (PEP 508) of the manifest.
        where: how messages call this Python environment.

    Yields:
        A warning for each import that leads nowhere, and for each package that the manifest does not name.
    """
    own = module_names(files)
    trees = {path: parse(content, path) for path, content in files.items()}
    places: dict[str, str] = {}
    for path, tree in trees.items():
        for node in _imports(tree):
            place = f"{path}:{node.lineno}"
            package = _package(path, node)
            if package is None:
                yield f"{place}: a relative import has no package to start from here; write `{_absolute(node)}`"
                continue
            for module in _modules(node, package):
                top = module.partition(".")[0]
                if top in _ALWAYS_THERE:
                    continue
                if top not in own:
                    places.setdefault(top, place)
                else:
                    yield from (f"{place}: {fault}" for fault in _faults(node, module, own, trees))
    elsewhere = any(b"sys.path" in content for content in files.values())
    for top, place in places.items():
        if is_installed(top):
            if providers := undeclared(top, dependencies):
                yield f"{place}: import {top}: {' or '.join(providers)} is missing in [project] dependencies"
        elif not (elsewhere or is_named(top, dependencies)):  # those that are named are told already
            yield f"{place}: {not_found(top, own, where)}"


def _imports(node: ast.AST) -> Iterator[Import]:
    """Those that are no business of a condition; statements alone hold any, and expressions may be very deep."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Import):
            yield child
        elif isinstance(child, ast.stmt | ast.match_case) and not isinstance(child, ast.If | ast.Try | ast.With):
            yield from _imports(child)


def _package(path: str, node: Import) -> str | None:
    """The package at which an import begins, "" for an absolute one; None where it would be above all of them."""
    level = node.level if isinstance(node, ast.ImportFrom) else 0
    if level == 0:
        return ""
    parents = PurePosixPath(path).parent.parts
    return ".".join(parents[: max(0, len(parents) - level + 1)]) or None


def _absolute(node: Import) -> str:
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        return ast.unparse(ast.ImportFrom(node.module, node.names, 0))
    return ast.unparse(ast.Import(node.names))


def _modules(node: Import, package: str) -> list[str]:
    """Dotted names of the modules that an import names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [".".join(filter(None, (package, node.module)))]


def _faults(node: Import, module: str, own: Mapping[str, str], trees: Mapping[str, ast.Module]) -> Iterator[str]:
    """What is wrong with an import of a module of the folder."""
    if module not in own:
        yield f"the folder has no module {module!r}{did_you_mean(module, own)}"
        return
    path = own[module]
    tree = trees.get(f"{path}__init__.py" if path.endswith("/") else path)
    defined = set() if tree is None else _defined(tree)
    if defined is None or isinstance(node, ast.Import):
        return
    known = [*defined, *(name.removeprefix(f"{module}.") for name in own if name.startswith(f"{module}."))]
    for alias in node.names:
        if alias.name not in ("*", *known):
            yield f"{path} has no {alias.name!r}{did_you_mean(alias.name, known)}"


def _defined(tree: ast.Module) -> set[str] | None:
    """Names that a module may define, whatever the scope; None where its text does not tell."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.alias(name="*"):
                return None
            case ast.Name(id=name, ctx=ast.Load()):
                if name in _BINDING:
                    return None
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
    return None if names & _BINDING else names
