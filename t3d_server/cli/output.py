"""How commands show things: messages, tables, progress, and results as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from t3d_server.datasets import formats, hdf5
from t3d_server.errors import T3dError, UnsupportedMediaTypeError
from t3d_server.models import LogLine

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

LEVEL_STYLES = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "red"}
PICTURE_SUFFIXES = {formats.TIFF: ".tif", formats.PNG: ".png", formats.NPY: ".npy"}


def print_error(error: T3dError) -> None:
    """An error with all its problems, and the traceback of the author's code if there is one."""
    if error.traceback:
        errors.print(error.traceback.rstrip(), style="dim", markup=False)
    errors.print(f"error: {error}", style="red", markup=False)


def print_warnings(warnings: Iterable[str]) -> None:
    """Warnings, one a line."""
    for warning in warnings:
        errors.print(f"warning: {warning}", style="yellow", markup=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def print_line(line: LogLine) -> None:
    """A line of a log."""
    console.print(f"{line.time:%H:%M:%S} {line.level:7} {line.message}", style=LEVEL_STYLES[line.level], markup=False)


@contextmanager
def progress_bar(description: str) -> Iterator[Bar]:
    """A progress bar on standard error; standard output stays for results."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        yield Bar(progress, progress.add_task(description, total=1.0))


class Bar:
    """A progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, fraction: float, description: str | None = None) -> None:
        """Set how far it is, and what it is about."""
        changes: dict[str, Any] = {} if description is None else {"description": description}
        self._progress.update(self._task, completed=fraction, **changes)

    def show_bytes(self, sent_bytes: int, total_bytes: int) -> None:
        """Set how much of a transfer is done."""
        self.show(sent_bytes / total_bytes if total_bytes else 1.0)


def save_dataset(values: Mapping[str, Any], folder: Path, stem: str, content_type: str) -> list[Path]:
    """Write a dataset as files of the kind that the input had.

    HDF5 and npz inputs give one HDF5 file. Otherwise `image` and `mask` become pictures of the input's kind (TIFF where
    PNG and JPEG cannot hold them), other arrays npy, and small values one JSON file.

    Args:
        values: the dataset.
        folder: where to write; made if it is missing.
        stem: how the file names begin.
        content_type: that of the input.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if content_type in (formats.HDF5, formats.NPZ):
        path = folder / f"{stem}.h5"
        hdf5.write(path, values)
        return [path]
    files = []
    small = {}
    for key, value in values.items():
        if isinstance(value, np.ndarray):
            files.append(_save_array(key, value, values, folder / f"{stem}-{key}", content_type))
        elif value is not None:
            small[key] = value
    if small:
        path = folder / f"{stem}.json"
        path.write_text(json.dumps(small, indent=2, default=str) + "\n")
        files.append(path)
    return files


def _save_array(key: str, array: np.ndarray, values: Mapping[str, Any], base: Path, content_type: str) -> Path:
    pictures = {formats.TIFF: [formats.TIFF], formats.NPY: [formats.NPY]}.get(content_type, [formats.PNG, formats.TIFF])
    kinds = [*pictures, formats.NPY] if key in ("image", "mask") else [formats.NPY]
    for kind in kinds:
        path = base.with_name(base.name + PICTURE_SUFFIXES[kind])
        try:
            with path.open("wb") as file:
                formats.encode_array(
                    array,
                    kind,
                    file,
                    axes=values.get("axes") if key == "image" else None,
                    spacing=values.get("spacing"),
                    spacing_unit=values.get("spacing_unit"),
                )
        except UnsupportedMediaTypeError:
            path.unlink(missing_ok=True)
            continue
        return path
    raise AssertionError("npy holds every array")
