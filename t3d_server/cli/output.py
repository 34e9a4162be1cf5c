"""The output of commands: messages, tables and progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from t3d_server.errors import AlgorithmError, InvalidRequestError, T3dError
from t3d_server.models import LogLine

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

_MOST_LINES = 3

LEVEL_STYLES = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "red"}


def print_error(error: T3dError) -> None:
    """An error with all its problems, and the traceback of the author's code if there is one."""
    if error.traceback:
        errors.print(error.traceback.rstrip(), style="dim", markup=False)
    # The message of an error in the author's code may be the end of its traceback, which is printed already.
    traceback = _squeezed(error.traceback or "")
    text = "\n  - ".join([_beginning(error.message, traceback), *map(str, error.problems)])
    errors.print(f"error: {text}", style="red", markup=False)
    if isinstance(error, AlgorithmError) and error.run_id:
        errors.print(f"`t3d logs {error.run_id}` shows the log of the run.", markup=False)


def _beginning(message: str, traceback: str) -> str:
    """A message; only its first lines if the others are in the traceback."""
    rest = message.partition("\n")[2]
    return first_lines(message) if rest and _squeezed(rest) in traceback else message


def first_lines(message: str) -> str:
    """The first lines of a message, which have the cause in most cases; a single line often has not."""
    lines = message.splitlines()
    return "\n".join([*lines[:_MOST_LINES], *(["…"] if len(lines) > _MOST_LINES else [])])


def _squeezed(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def reporting_file_errors() -> Iterator[None]:
    """Report errors of the operating system about files of the user in one line.

    Raises:
        InvalidRequestError: names the file and what is wrong with it.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output has ended
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise InvalidRequestError(f"{where}{error.strerror or error}") from error


def print_warnings(warnings: Iterable[str]) -> None:
    """Warnings, one a line."""
    for warning in warnings:
        errors.print(f"warning: {warning}", style="yellow", markup=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, cut: bool = True) -> None:
    """A table, one line a row: on a terminal, lines are cut to its width if `cut`; files and pipes get all of it."""
    table = [list(columns), *([_squeezed(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for index, row in enumerate(table):
        padded = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        line = Text("  ".join(padded).rstrip(), style="" if index else "bold")
        if cut and console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line)


def print_line(line: LogLine) -> None:
    """A line of a log."""
    time = line.time.astimezone()  # of this machine, as `t3d runs` shows it
    console.print(f"{time:%H:%M:%S} {line.level:7} {line.message}", style=LEVEL_STYLES[line.level], markup=False)


def print_files(files: Mapping[Path, str]) -> None:
    """Files that were written, one a line; on a terminal with a description, if the file has one."""
    for path, what in files.items():
        console.print(f"{path} ({what})" if what and console.is_terminal else str(path), markup=False)


class _Clock(ProgressColumn):
    """The duration of the stage; rich's own column stops at 100 %, when the server may still work."""

    def render(self, task: Task) -> Text:
        return Text(str(timedelta(seconds=int(task.elapsed or 0))), style="progress.elapsed")


@contextmanager
def progress_bar(stage: str) -> Iterator[Bar]:
    """A progress bar on standard error; standard output stays for results.

    Args:
        stage: the first stage; see `Bar.begin`.
    """
    columns = (
        _Clock(),
        BarColumn(24),
        TaskProgressColumn(),
        # The last one is what a narrow terminal cuts. It may be the author's text, which is no markup.
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
    )
    # Where it cannot be drawn, it would leave an empty line.
    drawn = errors.is_terminal
    with Progress(*columns, console=errors, transient=True, expand=True, disable=not drawn) as progress:
        yield Bar(progress, progress.add_task(stage, total=None))


class Bar:
    """A progress bar with a clock, for one stage after the other."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def begin(self, stage: str) -> None:
        """Begin the next stage: the clock starts again, and the progress is unknown."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(_squeezed(stage), total=None)

    def show(self, fraction: float | None, text: str | None = None) -> None:
        """Set the progress of the stage, 0 to 1, and its text; None does not change the value."""
        changes: dict[str, Any] = {} if fraction is None else {"total": 1.0, "completed": fraction}
        self._progress.update(self._task, description=text and _squeezed(text), **changes)

    def show_bytes(self, sent_bytes: int, total_bytes: int) -> None:
        """Set how much of a transfer is done."""
        self.show(sent_bytes / total_bytes if total_bytes else 1.0)
