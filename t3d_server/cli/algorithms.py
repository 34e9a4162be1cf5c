"""`t3d deploy`, `use`, `list` and `remove`: the algorithms of a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from t3d_server.cli.developing import publish_at_each_save
from t3d_server.cli.output import console, errors, print_error, print_table, reporting_file_errors
from t3d_server.cli.publishing import publish, remove_version
from t3d_server.cli.versions import Part, raised_version
from t3d_server.client import Client
from t3d_server.errors import (
    ForbiddenError,
    InvalidPackageError,
    InvalidRequestError,
    ServerUnavailableError,
    T3dError,
    UnauthorizedError,
)
from t3d_server.models import AlgorithmInfo
from t3d_server.packages.folder import scan


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (deploy, use, remove):
        app.command()(reporting_file_errors()(command))
    app.command("list")(list_algorithms)


def deploy(
    paths: Annotated[list[Path], typer.Argument(help="Algorithm folders.", metavar="PATH")],
    bump: Annotated[Part | None, typer.Option(help="Raise this part of the version in pyproject.toml first.")] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Deploy each save until Ctrl-C, as a version that takes the last one's place."),
    ] = False,
) -> None:
    """Publish algorithm folders, and wait until they are loaded.

    If one cannot be published, the others are published all the same; the exit code is 1 then.

    With --watch, each save that changes the content is published as the next free patch version, which pyproject.toml
    gets too, and the version that this command published before is removed, unless it has runs: there is one
    development version at a time. If a save cannot be published, the error is shown, and the command waits for the
    next save. The last version stays after Ctrl-C (exit code 130).

    Example: t3d deploy my_algorithm --bump patch
    """
    if watch and bump:
        raise typer.BadParameter("--watch raises the patch version by itself; leave --bump out")
    with Client() as client:
        if watch:
            publish_at_each_save(client, paths)
            return
        failed = [str(path) for path in paths if not _is_deployed(client, path, bump, alone=len(paths) == 1)]
    if failed:
        raise InvalidPackageError(f"not deployed: {', '.join(failed)}")


def _is_deployed(client: Client, path: Path, bump: Part | None, *, alone: bool) -> bool:
    """Publish a folder. The errors of one of several are shown, and the others are published."""
    try:
        with reporting_file_errors():
            files, warnings = scan(path)
            with raised_version(path / "pyproject.toml", bump) as deployment:
                publish(client, path, files, warnings, deployment)
    except (ServerUnavailableError, UnauthorizedError, ForbiddenError):
        raise  # each of the folders would have the same error
    except T3dError as error:
        if alone:
            raise
        print_error(error)
        return False
    return True


def use(
    name: Annotated[str, typer.Argument(help="The algorithm.")],
    version: Annotated[str, typer.Argument(help="One of its published versions.")],
) -> None:
    """Make a version the current one, as to roll back.

    Runs that name no version get it.

    Example: t3d use denoise 1.0.0
    """
    with Client() as client:
        info = client.use(name, version)
    console.print(f"{info.name}: {info.current} is current", markup=False)


def list_algorithms() -> None:
    """List the published algorithms.

    Example: t3d list
    """
    with Client() as client:
        algorithms = client.algorithms()
    if not algorithms:
        errors.print("No algorithm is published yet: `t3d deploy FOLDER` publishes one.", markup=False)
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
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask; needed where there is no terminal.")] = False,
) -> None:
    """Remove a version of an algorithm, or all of it.

    It asks before. Runs stay listed, with their results.

    Example: t3d remove denoise 1.0.0 --yes
    """
    with Client() as client:
        before = client.algorithm(name)
        if version is not None:
            client.version(name, version)  # before the question: a version that is not there cannot be removed
        if not yes:
            _ask_whether_to_remove(before, version)
        for number in before.versions if version is None else [version]:
            remove_version(client, name, number, cancel_runs=cancel_runs)
        if version == before.current and before.versions != [version]:
            console.print(f"{name}: {client.algorithm(name).current} is current now", markup=False)


def _ask_whether_to_remove(info: AlgorithmInfo, version: str | None) -> None:
    """Ask, and return if the answer is yes.

    Raises:
        InvalidRequestError: there is no terminal to ask on.
        typer.Abort: the answer is no.
    """
    what = f"{info.name} {version}" if version is not None else f"all of {info.name} ({', '.join(info.versions)})"
    if not sys.stdin.isatty():
        raise InvalidRequestError(f"{what} is removed only with --yes, as there is no terminal to ask on")
    typer.confirm(f"Remove {what}?", abort=True, err=True)
