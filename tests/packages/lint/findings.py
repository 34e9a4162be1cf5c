"""What one check of the linter finds in a few files."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping

from t3d_server.packages.lint.linter import Check
from t3d_server.packages.lint.sources import Folder, parse


def findings(
    check: Check,
    files: Mapping[str, str],
    *,
    assets: Collection[str] = (),
    parameters: Collection[str] = (),
    dependencies: Collection[str] = (),
) -> list[str]:
    sources = parse({path: textwrap.dedent(code).encode() for path, code in files.items()})
    return [str(finding) for finding in check(Folder(sources, assets, parameters, dependencies))]
