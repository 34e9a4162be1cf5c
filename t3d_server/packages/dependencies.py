"""Whether the requirements of a manifest are installed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from t3d_server.packages.distributions import distributions_of


def check_dependencies(dependencies: Collection[str], *, where: str) -> Iterator[str]:
    """Hold the requirements of a manifest against what is installed.

    Args:
        dependencies: requirements (PEP 508).
        where: how messages call this Python environment.

    Yields:
        A warning for each that is not met; those whose marker is false are.
    """
    for index, text in enumerate(dependencies):
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        key = f"project.dependencies[{index}]"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            if providers := distributions_of(requirement.name):
                yield f"{key}: {text} is what code imports; the package is called {' or '.join(providers)}"
            else:
                yield f"{key}: {text} is not installed {where}"
        else:
            if not requirement.specifier.contains(found, prereleases=True):
                yield f"{key}: {text} is asked for, but {requirement.name} {found} is installed {where}"
