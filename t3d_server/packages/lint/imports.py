"""Check: the modules that code imports are there, and their packages are named in the manifest."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from t3d_server.errors import Problem
from t3d_server.packages.distributions import is_installed, is_named, undeclared
from t3d_server.packages.lint.nodes import bound_names
from t3d_server.packages.lint.sources import Folder, Source
from t3d_server.packages.modules import module_names
from t3d_server.packages.wording import did_you_mean, not_found

# With a standard library, the server and its old name, which is filled in (`isolation`).
_ALWAYS_THERE = sys.stdlib_module_names | {"t3d_server", "algorithms"}
# With these a module can have names that its text does not show.
_BINDING = {"exec", "eval", "globals", "vars", "__getattr__", "setattr"}

_Import = ast.Import | ast.ImportFrom


def check_imports(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each import that leads nowhere, and for each package that the manifest does not name.

    Imports under a condition are left alone: that code knows how to do without.
    """
    own = module_names(folder.sources)
    outside: dict[str, str] = {}
    for path, source in folder.sources.items():
        for node in _imports(source.tree):
            place = f"{path}:{node.lineno}"
            for module in _modules(path, node):
                top = module.partition(".")[0]
                if not module:
                    advice = f"write `{_absolute(node)}`"
                    yield Problem(place, f"a relative import has no package to start from here; {advice}")
                elif top in _ALWAYS_THERE:
                    continue
                elif top in own:
                    yield from (Problem(place, fault) for fault in _faults(node, module, own, folder.sources))
                else:
                    outside.setdefault(top, place)
    changes_path = any(b"sys.path" in source.content for source in folder.sources.values())
    for top, place in outside.items():
        if is_installed(top):
            if providers := undeclared(top, folder.dependencies):
                yield Problem(place, f"import {top}: {' or '.join(providers)} is missing in [project] dependencies")
        elif not (changes_path or is_named(top, folder.dependencies)):  # `check_dependencies` reports what is named
            yield Problem(place, not_found(top, own, folder.where))


def _imports(node: ast.AST) -> Iterator[_Import]:
    """Those that are no business of a condition; statements alone hold any, and expressions may be very deep."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Import):
            yield child
        elif isinstance(child, ast.stmt | ast.match_case) and not isinstance(child, ast.If | ast.Try | ast.With):
            yield from _imports(child)


def _modules(path: str, node: _Import) -> list[str]:
    """Dotted names of the modules that an import names; "" for one that would begin above all packages."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return [node.module or ""]
    parents = PurePosixPath(path).parent.parts
    package = parents[: max(0, len(parents) - node.level + 1)]
    return [".".join([*package, *filter(None, [node.module])]) if package else ""]


def _absolute(node: _Import) -> str:
    module = getattr(node, "module", None)
    return ast.unparse(ast.ImportFrom(module, node.names, 0) if module else ast.Import(node.names))


def _faults(node: _Import, module: str, own: Mapping[str, str], sources: Mapping[str, Source]) -> Iterator[str]:
    """What is wrong with an import of a module of the folder."""
    if module not in own:
        yield f"the folder has no module {module!r}{did_you_mean(module, own)}"
    elif isinstance(node, ast.ImportFrom):
        path = own[module]
        source = sources.get(f"{path}__init__.py" if path.endswith("/") else path)
        defined = _defined(source) if source else set()
        below = [name.removeprefix(f"{module}.") for name in own if name.startswith(f"{module}.")]
        for alias in node.names:
            if defined is not None and alias.name not in ("*", *defined, *below):
                yield f"{path} has no {alias.name!r}{did_you_mean(alias.name, [*defined, *below])}"


def _defined(source: Source) -> set[str] | None:
    """Names that a module may define, whatever the scope; None where its text does not show them."""
    # `except ... as name` unbinds the name at its end.
    names = set(bound_names(node for node in source.nodes if not isinstance(node, ast.ExceptHandler)))
    used = {node.id for node in source.nodes if isinstance(node, ast.Name)}
    return None if "*" in names or (names | used) & _BINDING else names
