"""A run's log is bounded, and says what it left out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from t3d_server import run_log
from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.models import LogLine, RunFailure
from t3d_server.run_log import LogTail, end_line, log_line

now = SYSTEM_CLOCK.now


def line(text: str) -> LogLine:
    return log_line(text, "INFO", now())


@pytest.mark.parametrize(("name", "limit"), [("MAX_LINES", 3), ("MAX_BYTES", 18)])
def test_the_latest_lines_are_kept(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    monkeypatch.setattr(run_log, name, limit)
    tail = LogTail()
    for number in range(5):
        tail.add(line(f"line {number}"))

    first, *kept = tail.lines()
    assert first.message.startswith("2 earlier lines are left out")
    assert [each.message for each in kept] == ["line 2", "line 3", "line 4"]


def test_no_line_has_the_time_of_one_before_it_whatever_the_clock_does() -> None:
    tail = LogTail()
    for seconds in (0, 0, -5):
        tail.add(line("text").model_copy(update={"time": now() + timedelta(seconds=seconds)}))
    first, second, third = tail.lines()
    assert first.time < second.time < third.time


def test_a_follower_gets_the_lines_after_the_last_one_that_it_has() -> None:
    tail = LogTail()
    for text in ("one", "two", "three"):
        tail.add(line(text))
    one, two, three = tail.lines()
    assert tail.after(one.time) == [two, three]
    assert tail.after(three.time) == []


def test_lines_are_found_by_number_as_far_as_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "MAX_LINES", 3)
    tail = LogTail()
    for number in range(5):
        tail.add(line(str(number)))
    assert [(first, [each.message for each in lines]) for first, lines in map(tail.since, (0, 3, 5))] == [
        (2, ["2", "3", "4"]),
        (3, ["3", "4"]),
        (5, []),
    ]


def test_codes_for_terminals_are_left_out() -> None:
    assert line("\x1b[1mbold\x1b[0m and \x1b[38;5;9mred\x1b[m [1]").message == "bold and red [1]"


def test_text_that_cannot_be_written_is_escaped() -> None:
    assert line("odd \udc80").message == "odd \\udc80"


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        log_line("text", "LOUD", now())


def test_of_a_line_that_is_too_long_the_middle_is_left_out() -> None:
    long = line("a" + "x" * (run_log.MAX_LINE_LENGTH + 3) + "z")
    assert long.message.startswith("ax")
    assert "x… (5 characters are left out) …x" in long.message
    assert long.message.endswith("xz")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (("ValueError", "no\n", "Traceback ...\nmy.ValueError: no\n\n"), "Traceback ...\nmy.ValueError: no"),
        (("ValueError", "", "Traceback ...\nValueError\n"), "Traceback ...\nValueError"),
        (("LoadFailedError", "it did not", "Traceback ..."), "Traceback ...\nLoadFailedError: it did not"),
        (("TimeoutError", "too long", ""), "TimeoutError: too long"),
    ],
)
def test_a_log_ends_with_the_error_and_has_it_once(failure: tuple[str, str, str], message: str) -> None:
    kind, text, traceback = failure
    end = end_line(RunFailure(code="any", type=kind, message=text, traceback=traceback), now())
    assert (end.level, end.message) == ("ERROR", message)
