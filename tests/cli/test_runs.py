"""The list of runs, as a narrow terminal and others get it."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pytest
from rich.console import Console

from t3d_server.cli import output, runs
from t3d_server.client import Client, RunHandle
from t3d_server.models import Run, RunFailure, RunStatus

IDS = ["01993c5e-12ab-7000-8000-00000000000b", "01993c5e-12ab-7100-8000-00000000000a"]
FAILURE = RunFailure(code="algorithm_error", type="ValueError", message="the image is too green for this model")
COMMON: dict[str, Any] = {
    "version": "1.0.0",
    "resolved_device": "cpu",
    "input_dataset_ids": [],
    "created_at": datetime(2026, 2, 3, 4, 5).astimezone(),
}
RUNS = [
    Run(id=IDS[0], algorithm="denoise", status=RunStatus.FAILED, error=FAILURE, **COMMON),
    Run(id=IDS[1], algorithm="segment", status=RunStatus.RUNNING, progress=0.45, **COMMON),
]


def listed(monkeypatch: pytest.MonkeyPatch, width: int, *, terminal: bool = True, long: bool = False) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, color_system=None, width=width, soft_wrap=True)
    monkeypatch.setattr(output, "console", console)
    monkeypatch.setattr(runs, "console", console)
    runs.print_runs(RUNS, long=long)
    return file.getvalue().splitlines()


def test_a_narrow_terminal_gets_beginnings_that_tell_runs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so room for why a run has failed."""
    assert listed(monkeypatch, 80) == [
        "run               status       algorithm      created      error",
        "01993c5e-12ab-70  FAILED       denoise 1.0.0  02-03 04:05  ValueError: the imag…",
        "01993c5e-12ab-71  RUNNING 45%  segment 1.0.0  02-03 04:05",
    ]


@pytest.mark.parametrize(
    ("width", "terminal", "long"),
    [(200, True, False), (80, False, False), (80, True, True)],
    ids=["wide", "pipe", "long"],
)
def test_others_get_whole_ids(monkeypatch: pytest.MonkeyPatch, width: int, terminal: bool, long: bool) -> None:
    _, failed, running = listed(monkeypatch, width, terminal=terminal, long=long)
    assert failed.startswith(f"{IDS[0]}  FAILED  ")
    assert failed.endswith("  1.0.0    cpu     2026-02-03 04:05:00  ValueError: the image is too green for this model")
    assert running.startswith(IDS[1])


@pytest.mark.parametrize(("run", "goes_on"), [(RUNS[0], False), (RUNS[1], True)], ids=["ended", "running"])
def test_who_stops_following_is_told_of_a_run_that_goes_on(
    run: Run, goes_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    following = runs.left_running(RunHandle(Client("http://127.0.0.1:1"), run))
    with pytest.raises(KeyboardInterrupt), following:
        raise KeyboardInterrupt
    told = f"`t3d results {run.id}` waits for it again, `t3d cancel {run.id}` ends it"
    assert (told in capsys.readouterr().err) is goes_on
