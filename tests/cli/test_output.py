"""What the commands print, on a terminal and into a pipe."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from t3d_server.cli import output
from t3d_server.errors import AlgorithmError, InvalidRequestError
from t3d_server.ids import new_id

ROWS = [(new_id(), "COMPLETED", "denoise", "Removes noise.\nKeeps edges. " * 5)]
COLUMNS = ["run", "status", "algorithm", "description"]


def printed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, color_system=None, width=80, soft_wrap=True)
    monkeypatch.setattr(output, "console", console)
    output.print_table(COLUMNS, ROWS)
    return file.getvalue().splitlines()


def test_a_pipe_gets_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    header, row = printed(monkeypatch, terminal=False)
    assert row.split() == " ".join(ROWS[0]).split()
    assert header.index("description") == row.index("Removes")


def test_a_terminal_gets_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    _, row = printed(monkeypatch, terminal=True)
    assert row.startswith(ROWS[0][0])
    assert row.endswith("…")
    assert len(row) == 80


def test_an_error_says_everything_once_but_how_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    problems = "the images cannot be stacked\n  - a.png: (3, 4)\n  - b.png: (5, 6)\n  - c.png: (7, 8)"
    traceback = f'  File "Runner.py", line 5, in preprocess\nt3d_server.errors.InvalidDatasetError: {problems}\n'
    output.print_error(AlgorithmError(f"x 1.0.0 failed: InvalidDatasetError: {problems}", traceback=traceback))
    told = capsys.readouterr().err
    assert told.count("c.png") == 1
    first = problems.partition("\n  - c.png")[0]
    assert told.endswith(f"error: x 1.0.0 failed: InvalidDatasetError: {first}\n…\n")


def test_the_bar_tells_of_each_stage_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock goes on at 100 % and starts again with a stage; texts are no markup, and cut where they are long."""
    file = io.StringIO()
    now = 0.0
    terminal = Console(file=file, force_terminal=True, width=80, soft_wrap=True, get_time=lambda: now)
    monkeypatch.setattr(output, "errors", terminal)

    def drawn() -> str:
        file.truncate(0)
        bar._progress.refresh()
        return Text.from_ansi(file.getvalue()).plain

    with output.progress_bar("uploading") as bar:
        bar.show_bytes(7, 7)
        now = 65.0
        assert "0:01:05" in drawn()
        assert "100% uploading" in drawn()

        bar.begin("waiting, [/3] runs\nahead " + "x" * 80)
        now = 75.0
        line = drawn()
        assert "0:00:10" in line
        assert "%" not in line
        assert "waiting, [/3] runs ahead xx" in line
        assert len(line.strip().splitlines()) == 1
        assert line.rstrip().endswith("…")

        bar.show(0.5, "half")
        assert " 50% half" in drawn()


def test_a_bar_without_a_terminal_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar("uploading") as bar:
        bar.show(0.5, "running")
    assert capsys.readouterr().err == ""


def test_errors_of_the_operating_system_name_the_file() -> None:
    with (
        pytest.raises(InvalidRequestError, match=r"^/no/such\.png: No such file or directory$"),
        output.reporting_file_errors(),
    ):
        Path("/no/such.png").read_bytes()
