"""`t3d run` and `t3d results`: from files to files."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from t3d_server.cli.arguments import Args, Device, RunId, full_id, parse_args, parse_spacing
from t3d_server.cli.inputs import check_inputs, naming
from t3d_server.cli.output import Bar, console, errors, print_files, print_warnings, progress_bar, reporting_file_errors
from t3d_server.cli.results import check_output, save_results
from t3d_server.cli.runs import cancellation_text, left_running
from t3d_server.client import Client, RunHandle
from t3d_server.client.datasets import discarding
from t3d_server.client.runs import REFUSALS
from t3d_server.errors import NotFoundError, T3dError
from t3d_server.models import DatasetInfo, Run
from t3d_server.packages.wording import counted

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files of the same names; without it, that is an error.")]
_FOLDER = Path("t3d-output")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (run, results):
        app.command()(reporting_file_errors()(command))


def run(
    name: Annotated[str, typer.Argument(help="The algorithm.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files (HDF5, npy, npz, TIFF, PNG or JPEG), folders of slices, or dataset ids.", metavar="INPUT"
        ),
    ],
    arg: Args = [],  # noqa: B006  # typer copies it
    device: Device = None,
    version: Annotated[str | None, typer.Option(help="Else the current one.")] = None,
    output: Output = _FOLDER,
    force: Force = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", help="Print the run's id once it is accepted, and do not wait: `t3d results ID` fetches."
        ),
    ] = False,
    key: Annotated[str, typer.Option(help="Key of the array in an npy or image file or a folder.")] = "image",
    axes: Annotated[
        str | None, typer.Option(help="Axes of the images: YX, YXC, CYX, ZYX or ZYXC; else what the files state.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Distances of samples along Z, Y and X, such as 2,0.65,0.65.", metavar="NUMBERS")
    ] = None,
    spacing_unit: Annotated[str | None, typer.Option(help="Unit of the spacing; um by default.")] = None,
) -> None:
    """Run an algorithm on files and save its results as files.

    Ctrl-C cancels the run. HDF5 and npz files give HDF5 files. Otherwise an image is written as a file of the input's
    kind where that keeps every value (a PNG for a JPEG), else as TIFF; a mask as TIFF (npy for npy), with a picture of
    it in colours beside it; other arrays as npy; small values as JSON.

    Results are named INPUT-NAME-KEY where the algorithm type gives one for each input (Image2Image, Image2Segmentation,
    Image2Embedding), or one input gave one result; else NAME-0-KEY, NAME-1-KEY and so on.

    Example: t3d run denoise photo.png -a method=nl_means -o results
    """
    layout: dict[str, Any] = {"axes": axes, "spacing": parse_spacing(spacing), "spacing_unit": spacing_unit, "key": key}
    check_inputs(inputs, ids=True)
    check_output(inputs, name, output, force=force)
    paths = [item for item in inputs if Path(item).exists()]
    with Client() as client, progress_bar(f"{name}: uploading") as bar:
        # First: without such an algorithm, or with wrong args, nothing is uploaded.
        found = client.algorithm(name).version if version is None else client.version(name, version)
        args = parse_args(arg, found.manifest.additional_parameters)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            uploaded = client.upload(paths, on_progress=bar.show_bytes, **layout)
        print_warnings(str(warning.message) for warning in caught)
        files = {info.id: path for info, path in zip(uploaded, paths, strict=True)}
        new = iter(files)
        ids = [next(new) if item in paths else item for item in inputs]
        bar.begin(f"{name}: submitting")
        with (
            naming(files),
            _submitted(client, uploaded, name, ids, args=args, device=device, version=version) as submitting,
        ):
            handle = submitting.result()
            if no_wait:
                console.print(handle.id)
                fetching = shlex.join(["t3d", "results", handle.id, *inputs])
                errors.print(f"`t3d logs -f {handle.id}` follows it, `{fetching}` fetches its results", markup=False)
                return
            errors.print(f"run {handle.id}", markup=False)
            saved = _save(handle, inputs, output, bar, found.manifest.algorithm_type, force=force)
    print_files(saved)


def results(
    run_id: RunId,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="The run's inputs, as given to `t3d run`: the files are named after them; else after ids.",
            metavar="INPUT",
        ),
    ] = [],  # noqa: B006  # typer copies it
    output: Output = _FOLDER,
    force: Force = False,
) -> None:
    """Wait for a run, and save its results as `t3d run` does.

    The run may be of another client. After Ctrl-C, it goes on.

    Example: t3d results 01993c5e-12ab photo.png -o results
    """
    with Client() as client, progress_bar("asking for the run") as bar:
        handle = client.handle(full_id(client, run_id))
        inputs = inputs or handle.run.input_dataset_ids
        check_output(inputs, handle.run.algorithm, output, force=force)
        with left_running(handle):
            saved = _save(handle, inputs, output, bar, _type_of(client, handle.run), force=force)
    print_files(saved)


def _type_of(client: Client, run: Run) -> str | None:
    """The algorithm type of a run; None where its version was removed."""
    try:
        return client.version(run.algorithm, run.version).manifest.algorithm_type
    except NotFoundError:
        return None


def _save(
    handle: RunHandle, inputs: Sequence[str], output: Path, bar: Bar, algorithm_type: str | None, *, force: bool
) -> dict[Path, str]:
    """Show a run until it has ended, and write its results; returns the files."""
    name = handle.run.algorithm
    _follow(handle, bar)
    found = counted(len(handle.output_dataset_ids()), "result")
    bar.begin(f"{name}: fetching {found}")
    datasets = handle.result(on_progress=bar.show_bytes)
    bar.begin(f"{name}: saving {found}")
    try:
        return save_results(datasets, inputs, name, output, algorithm_type=algorithm_type, force=force)
    except (T3dError, OSError):
        errors.print(f"The results are kept: `t3d results {handle.id}` fetches them again.", markup=False)
        raise


def _follow(handle: RunHandle, bar: Bar) -> None:
    """Show a run until it has ended; a run that is repeated waits again."""
    name = handle.run.algorithm
    for status, events in groupby(handle.events(), key=lambda event: event.status):
        bar.begin(f"{name}: {status.lower()}")
        for event in events:
            if event.queue_position is not None:
                ahead = counted(event.queue_position, "run") + " ahead" if event.queue_position else "next in the queue"
                bar.show(None, f"{name}: waiting, {ahead}")
            elif event.message or event.progress:  # before its code reports, nothing is known
                bar.show(event.progress or None, f"{name}: {event.message or status.lower()}")


@contextmanager
def _submitted(
    client: Client, uploaded: Sequence[DatasetInfo], name: str, ids: list[str], **options: Any
) -> Iterator[Future[RunHandle]]:
    """Submit a run, which Ctrl-C cancels; if it is refused, its uploads are removed."""

    def submit() -> RunHandle:
        with discarding(client, uploaded, *REFUSALS):
            return client.submit(name, ids, **options)

    # In a thread, so that Ctrl-C never comes between the run being accepted and its id being known.
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(submit)
        try:
            yield submitting
        except KeyboardInterrupt:
            if submitting.exception() is None:
                errors.print(cancellation_text(submitting.result().cancel()), markup=False)
            raise
