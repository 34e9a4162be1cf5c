"""A run's log is bounded, and says what it left out."""

from __future__ import annotations

import pytest

from t3d_server.runs import log
from t3d_server.runs.log import LogTail, log_line


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


def test_a_line_that_is_too_long_is_cut() -> None:
    line = log_line("x" * (log.MAX_LINE_LENGTH + 5), "INFO")
    assert line.message.endswith("x… (5 more characters)")
