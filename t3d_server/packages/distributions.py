"""The installed distributions: which modules they provide, and which of them a requirement installs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import PurePath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_SERVER = "t3d-server"
# Reading what each one holds takes a while. What is installed later is only not warned of.
_distributions = cache(packages_distributions)


def is_installed(module: str) -> bool:
    """Whether a module can be imported by this top-level name, its import aside."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # one that is loaded, and made by hand
        return True


def is_named(module: str, dependencies: Collection[str]) -> bool:
    """Whether a requirement has the name of a module."""
    return any(canonicalize_name(Requirement(text).name) == canonicalize_name(module) for text in dependencies)


def undeclared(module: str, dependencies: Collection[str]) -> list[str]:
    """The distributions of which one ought to be a dependency.

    Args:
        module: top-level name of an installed module that code imports.
        dependencies: requirements (PEP 508) of its manifest.

    Returns:
        Those that provide the module; none where a requirement or the server brings one of them, or where nothing is
        known of where the module comes from.
    """
    brought = frozenset[str]().union(*map(_brought_by, (_SERVER, *dependencies)))
    if canonicalize_name(module) in brought:
        return []
    providers = distributions_of(module)
    return [] if brought & {canonicalize_name(name) for name in providers} else providers


def distributions_of(module: str) -> list[str]:
    """The names of the installed distributions that provide a module of this top-level name."""
    return list(dict.fromkeys(_distributions().get(module, [])))


def installed_package(module: str) -> str:
    """The installed package that is imported by a top-level name, with its version; "" if there is none."""
    places = [place for place in sys.path if PurePath(place).name in ("site-packages", "dist-packages")]
    spec = PathFinder.find_spec(module, places)
    if spec is None or spec.origin is None:
        return ""
    return ", ".join(f"{each} {version(each)}" for each in distributions_of(module)) or module


@cache
def _brought_by(text: str) -> frozenset[str]:
    """Canonical names of what a requirement installs, as far as it is installed here: itself, and what that needs."""
    brought: set[tuple[str, str]] = set()
    waiting = [Requirement(text)]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in brought:
                brought.add((name, extra))
                waiting += (
                    item for item in _needs(name) if item.marker is None or item.marker.evaluate({"extra": extra})
                )
    return frozenset(name for name, _ in brought)


def _needs(name: str) -> list[Requirement]:
    try:
        return list(map(Requirement, requires(name) or []))
    except PackageNotFoundError:
        return []
