"""`t3d deploy`, `use`, `list` and `remove`: the algorithms of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t3d_server.cli.developing import publish_at_each_save
from t3d_server.cli.output import console, files_told, print_table
from t3d_server.cli.publishing import publish, remove_version
from t3d_server.cli.versions import Part, raised_version
from t3d_server.client import Client
from t3d_server.packages.folder import scan


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (deploy, use, remove):
        app.command()(files_told()(command))
    app.command("list")(list_algorithms)


def deploy(
    paths: Annotated[list[Path], typer.Argument(help="Algorithm folders.", metavar="PATH...")],
    bump: Annotated[Part | None, typer.Option(help="Raise this part of the version in pyproject.toml first.")] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Deploy each save until Ctrl-C, as a version that takes the last one's place."),
    ] = False,
) -> None:
    """Publish algorithm folders; returns when replicas have loaded them.

    With --watch, each save that changes the content is published as the next free patch version, which pyproject.toml
    gets too, and the version that this command published before is removed, unless it has runs: there is one
    development version at a time. What cannot be published is told, and the next save is waited for. The last version
    stays after Ctrl-C (exit code 130).
    """
    if watch and bump:
        raise typer.BadParameter("--watch raises the patch version by itself; leave --bump out")
    with Client() as client:
        if watch:
            publish_at_each_save(client, paths)
            return
        for path in paths:
            files, warnings = scan(path)
            with raised_version(path / "pyproject.toml", bump) as deployment:
                publish(client, path, files, warnings, deployment)


def use(
    name: Annotated[str, typer.Argument(help="The algorithm.")],
    version: Annotated[str, typer.Argument(help="One of its published versions.")],
) -> None:
    """Make a version the current one: runs that name no version get it. So to roll back."""
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
    name: Annotated[str, typer.Argument(help="The algorithm.")],
    version: Annotated[str | None, typer.Argument(help="The version to remove; all of them without it.")] = None,
    cancel_runs: Annotated[
        bool, typer.Option("--cancel-runs", help="Cancel its runs instead of waiting for them.")
    ] = False,
) -> None:
    """Remove a version of an algorithm, or all of it."""
    with Client() as client:
        before = client.algorithm(name)
        for number in [version] if version else before.versions:
            remove_version(client, name, number, cancel_runs=cancel_runs)
        if version == before.current and before.versions != [version]:
            console.print(f"{name}: {client.algorithm(name).current} is current now", markup=False)
