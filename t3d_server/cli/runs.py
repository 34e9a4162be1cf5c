"""`t3d run`, `runs`, `logs` and `cancel`: using algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from t3d_server.cli.arguments import Args, Device, parse_args, parse_spacing
from t3d_server.cli.inputs import check_inputs, naming
from t3d_server.cli.output import Bar, console, errors, files_told, print_files, print_line, print_table, progress_bar
from t3d_server.cli.results import save_results
from t3d_server.client import Client, RunHandle
from t3d_server.errors import RunNotFoundError
from t3d_server.ids import is_id
from t3d_server.models import Run, RunStatus
from t3d_server.packages.wording import counted

RunId = Annotated[str, typer.Argument(help="Id of the run; of a recent one, its beginning will do.")]

_RECENT_RUNS = 200


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
    """Run an algorithm on files and save its results as files. Ctrl-C cancels the run.

    HDF5 and npz files give HDF5 files. Otherwise an image is written as a file of the input's kind where that keeps
    every value (a PNG for a JPEG), else as TIFF; a mask as TIFF (npy for npy), with a picture of it in colours beside
    it; other arrays as npy; small values as JSON.
    """
    args = parse_args(arg)
    said: dict[str, Any] = {"axes": axes, "spacing": parse_spacing(spacing), "spacing_unit": spacing_unit, "key": key}
    check_inputs(inputs, ids=True)
    paths = [item for item in inputs if Path(item).exists()]
    with Client() as client, progress_bar(f"{name}: uploading") as bar:
        uploaded = client.upload(paths, on_progress=bar.show_bytes, **said)
        files = {info.id: path for info, path in zip(uploaded, paths, strict=True)}
        new = iter(files)
        ids = [next(new) if item in paths else item for item in inputs]
        bar.begin(f"{name}: submitting")
        with _submitted(client, name, ids, args=args, device=device, version=version) as submitting, naming(files):
            handle = submitting.result()
            errors.print(f"run {handle.id}", markup=False)
            _follow(handle, bar)
            outputs = handle.output_dataset_ids()
            bar.begin(f"{name}: fetching {counted(len(outputs), 'result')}")
            results = client.fetch(outputs, on_progress=bar.show_bytes)
        bar.begin(f"{name}: saving {counted(len(outputs), 'result')}")
        saved = save_results(results, inputs, name, output)
    print_files(saved)


def _follow(handle: RunHandle, bar: Bar) -> None:
    """Shows a run until it has ended; a run that is repeated waits once more."""
    name = handle.run.algorithm
    for status, events in groupby(handle.events(), key=lambda event: event.status):
        bar.begin(f"{name}: {status.lower()}")
        for event in events:
            if event.queue_position is not None:
                ahead = counted(event.queue_position, "run") + " ahead" if event.queue_position else "next in the queue"
                bar.show(None, f"{name}: waiting, {ahead}")
            elif event.message or event.progress:  # until its code tells, nothing is known
                bar.show(event.progress or None, f"{name}: {event.message or status.lower()}")


@contextmanager
def _submitted(client: Client, name: str, ids: list[str], **options: Any) -> Iterator[Future[RunHandle]]:
    """Submits a run, which Ctrl-C cancels."""
    # In a thread, so that Ctrl-C never comes between the run being accepted and its id being known.
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(client.submit, name, ids, **options)
        try:
            yield submitting
        except KeyboardInterrupt:
            if submitting.exception() is None:
                cancelled = submitting.result().cancel()
                errors.print(f"run {cancelled.id} {_state(cancelled)}", markup=False)
            raise


def runs(
    algorithm: Annotated[str | None, typer.Option(help="Only runs of this algorithm.")] = None,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
) -> None:
    """List runs, newest first."""
    with Client() as client:
        listed = client.runs(algorithm=algorithm, status=status, limit=limit)
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
    )


def _status(run: Run) -> str:
    if run.cancel_requested and not run.status.ended:
        return "CANCELLING"
    return f"{run.status} {run.progress:.0%}" if run.status is RunStatus.RUNNING else run.status


def _error(run: Run) -> str:
    """Why a run has no result, on one line."""
    if run.error is None or run.error.code == "cancelled":  # as its status tells
        return ""
    what = run.error.type if run.error.code == "algorithm_error" else run.error.code
    return f"{what}: {run.error.message}".splitlines()[0]


def logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
) -> None:
    """Show the log of a run."""
    with Client() as client:
        run_id = _whole(client, run_id)
        if follow:
            for _, event in client.follow(run_id):
                for line in event.lines:
                    print_line(line)
            return
        for line in client.log(run_id):
            print_line(line)


def cancel(run_id: RunId) -> None:
    """Cancel a run: a queued one at once, a running one when its code next calls the server.

    If it makes no call within T3D_CANCEL_GRACE_S (10 s), its process is ended. Until then `t3d runs` shows it as
    CANCELLING.
    """
    with Client() as client:
        cancelled = client.cancel(_whole(client, run_id))
    console.print(f"run {cancelled.id} {_state(cancelled)}", markup=False)


def _whole(client: Client, beginning: str) -> str:
    """The id that begins so, of the latest runs.

    Raises:
        RunNotFoundError: none of them does, or several do.
    """
    if is_id(beginning):
        return beginning
    found = [run.id for run in client.runs(limit=_RECENT_RUNS) if run.id.startswith(beginning.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise RunNotFoundError(f"{len(found)} runs begin with {beginning!r}: {some}; give more of it")
    raise RunNotFoundError(
        f"no recent run begins with {beginning!r}; `t3d runs` lists them, older ones need the whole id"
    )


def _state(run: Run) -> str:
    return f"is {run.status}" if run.status.ended else "is being cancelled"
