"""The table of all checks, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from t3d_server.errors import Problem
from t3d_server.packages.lint.args import check_args
from t3d_server.packages.lint.assets import check_assets
from t3d_server.packages.lint.breakpoints import check_breakpoints
from t3d_server.packages.lint.dependencies import check_dependencies
from t3d_server.packages.lint.imports import check_imports
from t3d_server.packages.lint.methods import check_methods
from t3d_server.packages.lint.module_names import check_module_names
from t3d_server.packages.lint.names import check_names
from t3d_server.packages.lint.returns import check_returns
from t3d_server.packages.lint.runner import check_runner
from t3d_server.packages.lint.sources import Folder
from t3d_server.packages.lint.syntax import check_syntax

Check = Callable[[Folder], Iterator[Problem]]
Stage = Literal["errors", "code", "manifest"]

# Errors refuse a folder. All others are warnings: of the code alone, and of what needs the manifest or the assets too.
CHECKS: dict[Stage, tuple[Check, ...]] = {
    "errors": (check_syntax, check_runner),
    "code": (check_breakpoints, check_returns, check_module_names),
    "manifest": (check_imports, check_names, check_assets, check_args, check_methods, check_dependencies),
}


def lint(folder: Folder, stage: Stage) -> list[Problem]:
    """The findings of one stage: errors in the order of the files, warnings in that of the checks."""
    findings = [finding for check in CHECKS[stage] for finding in check(folder)]
    if stage == "errors":
        order = {path: index for index, path in enumerate(folder.sources, start=1)}
        findings.sort(key=lambda finding: order.get(finding.key.partition(":")[0], 0))
    return findings
