"""A run's log is bounded, and says what it left out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from t3d_server.models import RunFailure, utc_now
from t3d_server.runs import log
from t3d_server.runs.log import LogTail, end_line, log_line


@pytest.mark.parametrize(("name", "limit"), [("MAX_LINES", 3), ("MAX_BYTES", 18)])
def test_the_latest_lines_are_kept(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    monkeypatch.setattr(log, name, limit)
    tail = LogTail()
    for number in range(5):
        tail.add(log_line(f"line {number}", "INFO"))

    first, *kept = tail.take()
    assert first.message.startswith("2 earlier lines are left out")
    assert [line.message for line in kept] == ["line 2", "line 3", "line 4"]
    assert tail.take() == []


def test_no_line_has_the_time_of_one_before_it_whatever_the_clock_does() -> None:
    tail = LogTail()
    taken = []
    for seconds in (0, 0, -5):
        tail.add(log_line("text", "INFO").model_copy(update={"time": utc_now() + timedelta(seconds=seconds)}))
        taken += tail.take()
    assert taken[0].time < taken[1].time < taken[2].time


def test_codes_for_terminals_are_left_out() -> None:
    assert log_line("\x1b[1mbold\x1b[0m and \x1b[38;5;9mred\x1b[m [1]", "INFO").message == "bold and red [1]"


def test_of_a_line_that_is_too_long_the_middle_is_left_out() -> None:
    line = log_line("a" + "x" * (log.MAX_LINE_LENGTH + 3) + "z", "INFO")
    assert line.message.startswith("ax")
    assert "x… (5 characters are left out) …x" in line.message
    assert line.message.endswith("xz")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (("ValueError", "no\n", "Traceback ...\nmy.ValueError: no\n\n"), "Traceback ...\nmy.ValueError: no"),
        (("ValueError", "", "Traceback ...\nValueError\n"), "Traceback ...\nValueError"),
        (("LoadFailedError", "it did not", "Traceback ..."), "Traceback ...\nLoadFailedError: it did not"),
        (("TimeoutError", "too long", ""), "TimeoutError: too long"),
    ],
)
def test_a_log_ends_with_the_error_and_tells_it_once(failure: tuple[str, str, str], said: str) -> None:
    kind, message, traceback = failure
    line = end_line(RunFailure(code="any", type=kind, message=message, traceback=traceback))
    assert (line.level, line.message) == ("ERROR", said)
