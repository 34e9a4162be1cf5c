"""Raises the version in `pyproject.toml` for a deployment, and restores it if the deployment fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from t3d_server.cli.output import print_warnings
from t3d_server.errors import InvalidPackageError, Problem, ServerUnavailableError, StoreUnavailableError, T3dError

Part = Literal["major", "minor", "patch"]

_VERSION = re.compile(r"""(^\[project\](?:(?!^\[).)*?^version\s*=\s*["'])(\d+)\.(\d+)\.(\d+)(["'])""", re.M | re.S)
OPEN_ENDS = (ServerUnavailableError, StoreUnavailableError)
"""After these the server may have published a version, or may still be about to."""


@dataclass
class Deployment:
    """The state of a deployment.

    Attributes:
        asked: the server has been asked to publish.
    """

    asked: bool = False


@contextmanager
def raised_version(path: Path, part: Part | None) -> Iterator[Deployment]:
    """Raise the version; it is restored if the deployment has certainly failed.

    Args:
        path: the `pyproject.toml`; nothing else in it is changed.
        part: the part to raise; None does not change the file.

    Raises:
        InvalidPackageError: there is no version of the form major.minor.patch.
    """
    deployment = Deployment()
    if part is None:
        yield deployment
        return
    old = path.read_bytes()
    new = _raise(path, old.decode("utf-8-sig"), part)
    try:
        path.write_bytes(new.encode())
        yield deployment
    except BaseException as error:
        refused = isinstance(error, T3dError) and not isinstance(error, OPEN_ENDS)
        if refused or not deployment.asked:
            if path.read_bytes() == new.encode():  # else its author has changed it meanwhile
                path.write_bytes(old)
        else:
            print_warnings([f"{path}: the raised version stays, as it may have been published"])
        raise


def _raise(path: Path, text: str, part: Part) -> str:
    match = _VERSION.search(text)
    if match is None:
        problem = Problem("project.version", 'version = "major.minor.patch" is expected')
        raise InvalidPackageError(f"{path}: the version cannot be raised", problems=[problem])
    major, minor, patch = map(int, match.group(2, 3, 4))
    raised = {
        "major": f"{major + 1}.0.0",
        "minor": f"{major}.{minor + 1}.0",
        "patch": f"{major}.{minor}.{patch + 1}",
    }[part]
    return text[: match.start(2)] + raised + text[match.end(4) :]
