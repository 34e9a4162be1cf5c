"""How commands show things: messages, tables and progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from t3d_server.errors import InvalidRequestError, T3dError
from t3d_server.models import LogLine

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

LEVEL_STYLES = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "red"}


def print_error(error: T3dError) -> None:
    """An error with all its problems, and the traceback of the author's code if there is one."""
    if error.traceback:
        errors.print(error.traceback.rstrip(), style="dim", markup=False)
    # The message of an error in the author's code may be the end of its traceback: once is enough.
    told = _squeezed(error.traceback or "")
    text = "\n  - ".join([_first_told(error.message, told), *map(str, error.problems)])
    errors.print(f"error: {text}", style="red", markup=False)


def _first_told(message: str, told: str) -> str:
    """The first line alone of a message whose other lines were told before."""
    first, _, rest = message.partition("\n")
    return first if rest and _squeezed(rest) in told else message


def _squeezed(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def files_told() -> Iterator[None]:
    """Turns errors of the operating system, about files of the user, into one line.

    Raises:
        InvalidRequestError: names the file and what is wrong with it.
    """
    try:
        yield
    except BrokenPipeError:  # whoever read the output has gone
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise InvalidRequestError(f"{where}{error.strerror or error}") from error


def print_warnings(warnings: Iterable[str]) -> None:
    """Warnings, one a line."""
    for warning in warnings:
        errors.print(f"warning: {warning}", style="yellow", markup=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table, one line a row: a terminal shows as much of each as fits, a file or pipe gets all of it."""
    table = [list(columns), *([_squeezed(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for index, row in enumerate(table):
        padded = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        line = Text("  ".join(padded).rstrip(), style="" if index else "bold")
        if console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line)


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
    # Where it cannot be drawn, it would leave an empty line.
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
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
