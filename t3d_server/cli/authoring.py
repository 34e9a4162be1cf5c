"""`t3d check` and `t3d debug`: for authors, without a server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.cli.arguments import Args, Device, parse_args
from t3d_server.cli.inputs import check_inputs
from t3d_server.cli.output import console, print_files, print_line, print_table, print_warnings, reporting_file_errors
from t3d_server.cli.results import remove_last, save_results
from t3d_server.cli.scaffold import new
from t3d_server.cli.watching import run_at_each_save
from t3d_server.errors import ImportFailedError
from t3d_server.local import LocalRun, run_folder
from t3d_server.models import LogLine
from t3d_server.packages.builder import build
from t3d_server.packages.fetch import folder_package
from t3d_server.packages.folder import meant_to_open
from t3d_server.packages.import_check import check_import
from t3d_server.packages.wording import counted
from t3d_server.picture import Row, Titled, draw_rows

_MOST_SHOWN = 12
"""Inputs, and results, in a picture."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (new, check, debug):
        app.command()(reporting_file_errors()(command))


def check(path: Annotated[Path, typer.Argument(help="The algorithm folder.")]) -> None:
    """Check an algorithm folder, and show all problems at once.

    It looks at the manifest and the code, and imports `Runner` as a server would.

    Example: t3d check my_algorithm
    """
    tags = load_tags()
    built = build(path, tags=tags)
    try:
        manifest, more = check_import(folder_package(path), built.manifest, built.manifest.load_timeout_s, tags=tags)
    except ImportFailedError as error:
        # A warning may have the cause; but not those of a missing module that the error names itself.
        facts = {warning: warning.split(": ", 1)[-1].partition(" is installed ")[0] for warning in built.warnings}
        print_warnings(warning for warning, fact in facts.items() if fact not in error.message)
        raise
    warnings = list(dict.fromkeys([*built.warnings, *more]))
    print_warnings(warnings)
    verdict = f"can be deployed, with {counted(len(warnings), 'warning')}" if warnings else "is fine"
    console.print(
        f"{manifest.name} {manifest.version} {verdict}: {manifest.algorithm_type}, "
        f"on {' and '.join(manifest.supported_devices)}, {counted(len(manifest.additional_parameters), 'parameter')}, "
        f"{counted(len(meant_to_open(built.assets)), 'asset')}",
        markup=False,
    )


def debug(
    path: Annotated[Path, typer.Argument(help="The algorithm folder.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Files (HDF5, npy, npz, TIFF, PNG or JPEG) or folders of slices.", metavar="INPUT"),
    ],
    arg: Args = [],  # noqa: B006  # typer copies it
    device: Device = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results; those that it wrote last time are removed.")
    ] = Path("t3d-output/debug"),
    watch: Annotated[
        bool, typer.Option("--watch", help="Run again at each save, in a fresh process, until Ctrl-C (exit code 130).")
    ] = False,
) -> None:
    """Run an algorithm folder here, without a server.

    It runs from its own source: breakpoints hit. Results are written as `t3d run` writes them, with a picture of inputs
    beside results.

    Example: t3d debug my_algorithm photo.png -a sigma=0.5 --watch
    """
    names = list(map(str, inputs))
    check_inputs(names, ids=False)
    if watch:
        run_at_each_save(path, output)
        return
    # The output of the code is shown anyway; on a server, the log of the run has these records, too.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    listener = _Console()
    built = build(path, tags=load_tags())
    args = parse_args(arg, built.manifest.additional_parameters)
    result = run_folder(path, built, inputs, args, listener, device=device)
    result.raise_error()
    print_table(["phase", "seconds"], [(phase, f"{time_s:.3f}") for phase, time_s in result.times_s.items()])
    name = result.manifest.name
    saved = save_results(result.outputs, names, name, output, algorithm_type=result.manifest.algorithm_type, force=True)
    picture = output / f"{name}.png"
    draw_rows(_rows(inputs, result), picture)
    saved[picture] = "picture of inputs beside results"
    remove_last(saved, output / f".t3d-debug-{name}.json")
    print_files(saved)


def _rows(paths: Sequence[Path], run: LocalRun) -> list[Row]:
    """The rows of the picture: one for each input and its result if their numbers are equal, else one for all."""
    inputs = _titled([f": {path.name}" for path in paths], "input", list(run.inputs.values()))
    results = _titled([""] * len(run.outputs), "result", run.outputs)
    if len(inputs) == len(results):
        return [([given], [made]) for given, made in zip(inputs, results, strict=True)]
    return [(inputs, results)]


def _titled(names: Sequence[str], what: str, datasets: Sequence[Mapping[str, Any]]) -> list[Titled]:
    """The first datasets with their titles; numbered if there are several."""
    count = len(datasets)
    numbers = [f" {index} of {count}" if count > 1 else "" for index in range(1, count + 1)]
    titled = zip(numbers, names, datasets, strict=True)
    return [(f"{what}{number}{name}", values) for number, name, values in titled][:_MOST_SHOWN]


class _Console:
    """Shows the log and the progress of a run as it goes."""

    def __init__(self) -> None:
        self._shown = 0

    def log(self, line: LogLine) -> None:
        print_line(line)

    def progress(self, fraction: float) -> None:
        percent = round(fraction * 100)
        if percent >= self._shown + 10 or percent < self._shown:
            self._shown = percent
            console.print(f"progress {percent} %", style="dim")

    def cancelled(self) -> bool:
        return False
