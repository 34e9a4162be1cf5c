"""`t3d run`, `runs`, `logs` and `cancel`: using algorithms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t3d_server.cli.arguments import Args, Device, parse_args
from t3d_server.cli.output import console, print_line, print_table, progress_bar, save_dataset
from t3d_server.client import Client
from t3d_server.datasets.formats import guess_content_type


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (run, runs, logs, cancel):
        app.command()(command)


def run(
    name: Annotated[str, typer.Argument(help="The algorithm.")],
    inputs: Annotated[
        list[str], typer.Argument(help="Files (HDF5, npy, npz, TIFF, PNG or JPEG) or dataset ids.", metavar="INPUT...")
    ],
    arg: Args = [],  # noqa: B006  # typer copies it
    device: Device = None,
    version: Annotated[str | None, typer.Option(help="Else the current one.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("t3d-output"),
) -> None:
    """Run an algorithm on files and save its results as files."""
    args = parse_args(arg)
    with Client() as client, progress_bar(f"{name}: uploading") as bar:
        ids = []
        for item in inputs:
            if Path(item).exists():
                info = client.upload(Path(item), on_progress=bar.show_bytes)
                ids.append(info.id)
            else:
                ids.append(item)
        handle = client.submit(name, ids, args=args, device=device, version=version)
        bar.show(0, f"{name}: {handle.id}")
        for event in handle.events():
            bar.show(event.progress, f"{name}: {event.message or event.status}")
        results = handle.result()
    kind = guess_content_type(Path(inputs[0])) if Path(inputs[0]).exists() else ""
    for index, values in enumerate(results):
        stem = Path(inputs[index]).stem if len(results) == len(inputs) else f"{name}-{index}"
        for file in save_dataset(values, output, f"{stem}-{name}" if stem != f"{name}-{index}" else stem, kind):
            console.print(str(file), markup=False)


def runs(
    algorithm: Annotated[str | None, typer.Option(help="Only runs of this algorithm.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs with this status.")] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
) -> None:
    """List runs, newest first."""
    with Client() as client:
        listed = client.runs(algorithm=algorithm, status=status, limit=limit)
    print_table(
        ["run", "algorithm", "version", "device", "status", "progress", "created", "error"],
        [
            (
                run.id,
                run.algorithm,
                run.version,
                run.resolved_device,
                run.status,
                f"{run.progress:.0%}",
                f"{run.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
                run.error.code if run.error else "",
            )
            for run in listed
        ],
    )


def logs(run_id: Annotated[str, typer.Argument(help="Id of the run.")]) -> None:
    """Show the log of a run."""
    with Client() as client:
        for line in client.log(run_id):
            print_line(line)


def cancel(run_id: Annotated[str, typer.Argument(help="Id of the run.")]) -> None:
    """Cancel a run: a queued one at once, a running one when it next reports."""
    with Client() as client:
        cancelled = client.cancel(run_id)
    state = "is being cancelled" if not cancelled.status.ended else f"is {cancelled.status}"
    console.print(f"run {run_id} {state}", markup=False)
