"""Check: the requirements of the manifest are installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from t3d_server.errors import Problem
from t3d_server.packages.distributions import distributions_of
from t3d_server.packages.lint.sources import Folder


def check_dependencies(folder: Folder) -> Iterator[Problem]:
    """Yield a warning for each requirement that is not met; those whose marker is false are."""
    for index, text in enumerate(folder.dependencies):
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        key = f"project.dependencies[{index}]"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            names = " or ".join(distributions_of(requirement.name))
            fault = f"what code imports; the package is called {names}" if names else f"not installed {folder.where}"
            yield Problem(key, f"{text} is {fault}")
        else:
            if not requirement.specifier.contains(found, prereleases=True):
                yield Problem(key, f"{text} is asked for, but {requirement.name} {found} is installed {folder.where}")
