"""`t3d runs`, `logs` and `cancel`: list runs, show their logs, and cancel them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from t3d_server.cli.arguments import RunId, full_id
from t3d_server.cli.output import console, errors, first_lines, print_line, print_table, reporting_file_errors
from t3d_server.client import Client, RunHandle
from t3d_server.models import Run, RunStatus

_WIDE = 140
_LENGTH_OF_TIME = 13  # of an id: only ids of the same millisecond have the same beginning


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (runs, logs, cancel):
        app.command()(reporting_file_errors()(command))


def runs(
    algorithm: Annotated[str | None, typer.Option(help="Only runs of this algorithm.")] = None,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    long: Annotated[bool, typer.Option("--long", help="Do not cut the columns to the width of the terminal.")] = False,
) -> None:
    """List runs, newest first.

    On a narrow terminal, ids are shortened to their beginnings, which other commands take, too.

    Example: t3d runs --algorithm denoise --status failed
    """
    with Client() as client:
        print_runs(client.runs(algorithm=algorithm, status=status, limit=limit), long=long)


def print_runs(listed: Sequence[Run], *, long: bool) -> None:
    """A table of runs, which fits the terminal unless `long`."""
    if long or not console.is_terminal or console.width >= _WIDE:
        _print_whole(listed, cut=not long)
    else:
        _print_narrow(listed)


def _print_whole(listed: Sequence[Run], *, cut: bool) -> None:
    print_table(
        ["run", "status", "algorithm", "version", "device", "created", "error"],
        [
            (
                run.id,
                _status(run),
                run.algorithm,
                run.version,
                run.resolved_device,
                f"{run.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
                _error(run),
            )
            for run in listed
        ],
        cut=cut,
    )


def _print_narrow(listed: Sequence[Run]) -> None:
    length = _LENGTH_OF_TIME
    while len({run.id[:length] for run in listed}) < len(listed):
        length += 1
    print_table(
        ["run", "status", "algorithm", "created", "error"],
        [
            (
                run.id[:length],
                _status(run),
                f"{run.algorithm} {run.version}",
                f"{run.created_at.astimezone():%m-%d %H:%M}",
                _error(run),
            )
            for run in listed
        ],
    )


def _status(run: Run) -> str:
    if run.cancel_requested and not run.status.ended:
        return "CANCELLING"
    return f"{run.status} {run.progress:.0%}" if run.status is RunStatus.RUNNING else run.status


def _error(run: Run) -> str:
    """The error of a run, in a few lines."""
    if run.error is None or run.error.code == "cancelled":  # its status shows that
        return ""
    what = run.error.type if run.error.code == "algorithm_error" else run.error.code
    return first_lines(f"{what}: {run.error.message}")


def logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
) -> None:
    """Show the log of a run.

    Example: t3d logs 01993c5e-12ab -f
    """
    with Client() as client:
        run_id = full_id(client, run_id)
        if follow:
            handle = client.handle(run_id)
            with left_running(handle):
                for event in handle.events():
                    for line in event.lines:
                        print_line(line)
            return
        for line in client.log(run_id):
            print_line(line)


def cancel(run_id: RunId) -> None:
    """Cancel a run.

    A queued one is cancelled at once, a running one when its code next calls the server. If it makes no call within
    T3D_CANCEL_GRACE_S (10 s), its process is ended. Until then `t3d runs` shows it as CANCELLING.

    Example: t3d cancel 01993c5e-12ab
    """
    with Client() as client:
        cancelled = client.cancel(full_id(client, run_id))
    console.print(cancellation_text(cancelled), markup=False)


@contextmanager
def left_running(handle: RunHandle) -> Iterator[None]:
    """After Ctrl-C, print that the run goes on, and how to get its results."""
    try:
        yield
    except KeyboardInterrupt:
        if not handle.run.status.ended:
            advice = f"`t3d results {handle.id}` waits for it again, `t3d cancel {handle.id}` ends it"
            errors.print(f"run {handle.id} goes on: {advice}", markup=False)
        raise


def cancellation_text(run: Run) -> str:
    """The message for a run that is to be cancelled."""
    return f"run {run.id} is {run.status if run.status.ended else 'being cancelled'}"
