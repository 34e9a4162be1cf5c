"""`t3d deploy`, `use`, `list` and `remove`: the algorithms of a server."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from t3d_server.cli.output import Bar, console, print_table, print_warnings, progress_bar
from t3d_server.client import Client
from t3d_server.errors import InvalidPackageError, Problem
from t3d_server.packages.folder import scan

Part = Literal["major", "minor", "patch"]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (deploy, use, remove):
        app.command()(command)
    app.command("list")(list_algorithms)


def deploy(
    paths: Annotated[list[Path], typer.Argument(help="Algorithm folders.", metavar="PATH...")],
    bump: Annotated[Part | None, typer.Option(help="Raise this part of the version in pyproject.toml first.")] = None,
) -> None:
    """Publish algorithm folders; returns when replicas have loaded them."""
    with Client() as client:
        for path in paths:
            files, warnings = scan(path)
            if bump is not None:
                raise_version(path / "pyproject.toml", bump)
            with progress_bar(f"{path}: uploading") as bar:
                version = client.publish(files, on_progress=bar.show_bytes, on_stage=partial(_show_stage, bar, path))
            manifest = version.manifest
            print_warnings(dict.fromkeys([*warnings, *version.warnings]))
            proven = " and ".join(version.proven) or "no device yet"
            console.print(
                f"{manifest.name} {manifest.version} is deployed ({manifest.algorithm_type}, proven on {proven})",
                markup=False,
            )


def _show_stage(bar: Bar, path: Path, stage: str) -> None:
    bar.show(1.0, f"{path}: {stage}")


def raise_version(path: Path, part: Part) -> None:
    """Raise the `version` in the `[project]` table of a manifest; all else in the file stays as it is.

    Raises:
        InvalidPackageError: there is no version of the form major.minor.patch.
    """
    text = path.read_text("utf-8")
    pattern = re.compile(r"""(^\[project\](?:(?!^\[).)*?^version\s*=\s*["'])(\d+)\.(\d+)\.(\d+)(["'])""", re.M | re.S)
    match = pattern.search(text)
    if match is None:
        problem = Problem("project.version", 'version = "major.minor.patch" is expected')
        raise InvalidPackageError(f"{path}: the version cannot be raised", problems=[problem])
    major, minor, patch = map(int, match.group(2, 3, 4))
    raised = {
        "major": f"{major + 1}.0.0",
        "minor": f"{major}.{minor + 1}.0",
        "patch": f"{major}.{minor}.{patch + 1}",
    }[part]
    path.write_text(text[: match.start(2)] + raised + text[match.end(4) :], "utf-8")


def use(name: str, version: str) -> None:
    """Make a version the one that runs without a version get; this is how to roll back."""
    with Client() as client:
        info = client.use(name, version)
    console.print(f"{info.name}: {info.current} is current", markup=False)


def list_algorithms() -> None:
    """List the published algorithms."""
    with Client() as client:
        algorithms = client.algorithms()
    print_table(
        ["algorithm", "current", "versions", "type", "devices", "description"],
        [
            (
                info.name,
                info.current,
                ", ".join(info.versions),
                info.version.manifest.algorithm_type,
                ", ".join(info.version.manifest.supported_devices),
                info.version.manifest.description,
            )
            for info in algorithms
        ],
    )


def remove(
    name: str,
    version: Annotated[str | None, typer.Argument(help="Else all versions.")] = None,
    cancel_runs: Annotated[bool, typer.Option(help="Cancel its runs instead of waiting for them.")] = False,
) -> None:
    """Remove a version of an algorithm, or all of it."""
    with Client() as client:
        for number in [version] if version else client.algorithm(name).versions:
            client.remove(name, number, cancel_runs=cancel_runs)
            console.print(f"{name} {number} is removed", markup=False)
