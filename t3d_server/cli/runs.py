"""`t3d run`, `runs`, `logs` and `cancel`: using algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from t3d_server.cli.arguments import Args, Device, parse_args, parse_spacing
from t3d_server.cli.files import check_inputs, kind_of, naming, result_stems, save_dataset
from t3d_server.cli.output import Bar, console, errors, files_told, print_line, print_table, progress_bar
from t3d_server.client import Client, RunHandle
from t3d_server.models import Run, RunStatus


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (run, runs, logs, cancel):
        app.command()(files_told()(command))


def run(
    name: Annotated[str, typer.Argument(help="The algorithm.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files (HDF5, npy, npz, TIFF, PNG or JPEG), folders of slices, or dataset ids.", metavar="INPUT..."
        ),
    ],
    arg: Args = [],  # noqa: B006  # typer copies it
    device: Device = None,
    version: Annotated[str | None, typer.Option(help="Else the current one.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("t3d-output"),
    key: Annotated[str, typer.Option(help="Key of the array in an npy or image file or a folder.")] = "image",
    axes: Annotated[
        str | None, typer.Option(help="Axes of the images: YX, YXC, CYX, ZYX or ZYXC; else what the files state.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Distances of samples along Z, Y and X, such as 2,0.65,0.65.", metavar="NUMBERS")
    ] = None,
    spacing_unit: Annotated[str | None, typer.Option(help="Unit of the spacing; um by default.")] = None,
) -> None:
    """Run an algorithm on files and save its results as files. Ctrl-C cancels the run."""
    args = parse_args(arg)
    said: dict[str, Any] = {"axes": axes, "spacing": parse_spacing(spacing), "spacing_unit": spacing_unit, "key": key}
    check_inputs(inputs, ids=True, folders=True)
    paths = [item for item in inputs if Path(item).exists()]
    with Client() as client, progress_bar(f"{name}: uploading") as bar:
        uploaded = client.upload(paths, on_progress=bar.show_bytes, **said)
        files = {info.id: path for info, path in zip(uploaded, paths, strict=True)}
        new = iter(files)
        ids = [next(new) if item in paths else item for item in inputs]
        handle = client.submit(name, ids, args=args, device=device, version=version)
        errors.print(f"run {handle.id}", markup=False)
        with _cancelled_by_ctrl_c(handle), naming(files):
            _follow(handle, bar)
            results = handle.result()
    for stem, values in zip(result_stems(inputs, name, len(results)), results, strict=True):
        for file in save_dataset(values, output, stem, kind_of(inputs[0])):
            console.print(str(file), markup=False)


def _follow(handle: RunHandle, bar: Bar) -> None:
    """Shows a run until it has ended."""
    for event in handle.events():
        bar.show(event.progress, f"{handle.run.algorithm}: {event.message or event.status}")


@contextmanager
def _cancelled_by_ctrl_c(handle: RunHandle) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        errors.print(f"run {handle.id} {_state(handle.cancel())}", markup=False)
        raise


def runs(
    algorithm: Annotated[str | None, typer.Option(help="Only runs of this algorithm.")] = None,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
) -> None:
    """List runs, newest first."""
    with Client() as client:
        listed = client.runs(algorithm=algorithm, status=status, limit=limit)
    print_table(
        ["run", "status", "progress", "algorithm", "version", "device", "created", "error"],
        [
            (
                run.id,
                "CANCELLING" if run.cancel_requested and not run.status.ended else run.status,
                _progress(run),
                run.algorithm,
                run.version,
                run.resolved_device,
                f"{run.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
                run.error.code if run.error else "",
            )
            for run in listed
        ],
    )


def _progress(run: Run) -> str:
    # A run that has ended is at 100 %, but of one that failed nobody cares to read that.
    return f"{run.progress:.0%}" if run.status in (RunStatus.RUNNING, RunStatus.COMPLETED) else ""


def logs(
    run_id: Annotated[str, typer.Argument(help="Id of the run.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
) -> None:
    """Show the log of a run."""
    with Client() as client:
        if follow:
            for _, event in client.follow(run_id):
                for line in event.lines:
                    print_line(line)
            return
        for line in client.log(run_id):
            print_line(line)


def cancel(run_id: Annotated[str, typer.Argument(help="Id of the run.")]) -> None:
    """Cancel a run: a queued one at once, a running one when its code next calls the server.

    If it makes no call within T3D_CANCEL_GRACE_S (10 s), its process is ended. Until then `t3d runs` shows it as
    CANCELLING.
    """
    with Client() as client:
        cancelled = client.cancel(run_id)
    console.print(f"run {run_id} {_state(cancelled)}", markup=False)


def _state(run: Run) -> str:
    return f"is {run.status}" if run.status.ended else "is being cancelled"
