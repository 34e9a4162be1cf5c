"""Imports `Runner` from a package, as a replica, a check and a debugging session do."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from t3d_server.algorithm_utils import BaseRunner
from t3d_server.algorithm_utils.declarations import (
    declaration_faults,
    describe_inputs,
    describe_outputs,
    server_types,
)
from t3d_server.errors import ImportFailedError, InvalidPackageError, Problem
from t3d_server.models import Manifest
from t3d_server.packages.algorithm_type import check_tags, disagreement
from t3d_server.packages.distributions import installed_package, is_installed
from t3d_server.packages.fetch import Package, fetch_package, folder_package
from t3d_server.packages.isolation import ModuleSpace
from t3d_server.packages.tracebacks import format_author_traceback
from t3d_server.packages.wording import did_you_mean, not_found

__all__ = [
    "LoadedModule",
    "Package",
    "fetch_package",
    "folder_package",
    "format_author_traceback",
    "import_runner",
    "resolve_type",
    "tag_warnings",
]


@dataclass(frozen=True)
class LoadedModule:
    """The imported code of a package.

    Attributes:
        runner_class: the author's `Runner`.
        warnings: what was noticed at import.
        active: `with module.active():` must be around every call of the author's code, so that its imports, also
            those inside functions, pickle and dataclasses find its own modules.
    """

    runner_class: type[BaseRunner]
    warnings: list[str]
    active: Callable[[], AbstractContextManager[None]]


def import_runner(package: Package) -> LoadedModule:
    """Import `Runner` and what it imports.

    Raises:
        ImportFailedError: the import raised; it carries the traceback of the author's code.
        InvalidPackageError: there is no `Runner`, or it is not what the server can call.
    """
    space = ModuleSpace(package.folder)
    with space.active():
        importlib.invalidate_caches()
        try:
            module = importlib.import_module("Runner")
        # An author's script may end in sys.exit().
        except (Exception, SystemExit) as error:
            raise ImportFailedError(
                f"Runner.py cannot be imported: {type(error).__name__}: {error}{_advice(error, space)}",
                traceback=format_author_traceback(error, package.folder),
            ) from error
    runner_class = getattr(module, "Runner", None)
    if problems := [Problem("Runner.py", fault) for fault in _faults(runner_class)]:
        raise InvalidPackageError("Runner cannot be used.", problems=problems)
    return LoadedModule(runner_class, space.warnings, space.active)  # type: ignore[arg-type]  # _faults has seen to it


def resolve_type(manifest: Manifest, runner_class: type[BaseRunner]) -> Manifest:
    """Complete a manifest by what the class tells: the algorithm type, what goes in and what comes out.

    Raises:
        InvalidPackageError: manifest and class disagree about the type.
    """
    own, asked = runner_class.algorithm_type, manifest.algorithm_type
    if asked not in (None, own):
        base = next(base for base in runner_class.__mro__ if "algorithm_type" in vars(base))
        raise InvalidPackageError("The manifest and Runner disagree.", problems=[disagreement(asked, base)])
    described = {"inputs": describe_inputs(runner_class), "outputs": describe_outputs(runner_class)}
    return manifest.model_copy(update={"algorithm_type": own, **described})


def tag_warnings(manifest: Manifest, runner_class: type[BaseRunner]) -> list[str]:
    """A warning for each tag that the class of an own type does not name; those of the server are checked before."""
    own = runner_class.algorithm_type
    if own in server_types():
        return []
    return check_tags(own, manifest.tags, known={own: getattr(runner_class, "algorithm_tags", ())})


def _faults(runner_class: object) -> list[str]:
    if runner_class is None:
        return ["defines no class named Runner"]
    if not (isinstance(runner_class, type) and issubclass(runner_class, BaseRunner)):
        return ["Runner is no class that inherits from BaseRunner or from the class of its type"]
    methods = ("load_assets", "preprocess", "inference", "postprocess")
    return [
        *declaration_faults(runner_class),
        *(f"Runner does not implement {name}" for name in sorted(runner_class.__abstractmethods__)),
        *(f"{name} is `async def`; write `def`" for name in methods if _is_async(getattr(runner_class, name))),
    ]


def _is_async(method: object) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _advice(error: BaseException, space: ModuleSpace) -> str:
    """What to do about an import that failed."""
    if not isinstance(error, ImportError):
        return ""
    if "relative import" in str(error):
        return ". Import modules of the folder by plain name: `from my_module import x`"
    name = error.name or ""
    top = name.partition(".")[0]
    package = installed_package(top) if top in space.names else ""
    hides = f". {space.modules[top]} of the folder hides the installed package {package}: rename it" if package else ""
    if not isinstance(error, ModuleNotFoundError):
        missing = re.match(r"cannot import name '(\w+)'", str(error))
        return (did_you_mean(missing[1], dir(sys.modules.get(name))) if missing else "") or hides
    if hides:
        return hides
    if top in space.names or is_installed(top):
        return f". {top} is there, but holds no such module{did_you_mean(name, [*space.modules, *sys.modules])}"
    return f": {not_found(top, space.modules, 'where this was tried')}"
