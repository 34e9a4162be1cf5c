"""Puts the commands together, and turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from t3d_server import __version__
from t3d_server.cli import algorithms, authoring, runs, server, submitting
from t3d_server.cli.output import console, print_error
from t3d_server.errors import ServerUnavailableError, T3dError

EXIT_FAILED, EXIT_UNREACHABLE = 1, 3

app = typer.Typer(
    name="t3d",
    help="Serve image-processing algorithms on a Ray cluster, and use them.",
    epilog="`t3d run --help` describes one command. "
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server there, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (server, authoring, algorithms, submitting, runs):
    commands.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"t3d_server {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What may stand before a command."""


def main() -> None:
    """Run the command line; exits with 0, 1 (it failed), 2 (usage), 3 (server not reachable) or, by typer, 130."""
    try:
        app()
    except ServerUnavailableError as error:
        print_error(error)
        sys.exit(EXIT_UNREACHABLE)
    except T3dError as error:
        print_error(error)
        sys.exit(EXIT_FAILED)
