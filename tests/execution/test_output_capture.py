"""What author code prints and logs reaches the log of its run, and still goes where it would have gone."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from t3d_server.execution.output_capture import captured, install
from t3d_server.models import LogLine
from t3d_server.run_log import MAX_LINE_LENGTH

Begin = Callable[[], io.StringIO]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[[], io.StringIO]:
    """Captures the output of this process, in the test itself: pytest changes `sys.stdout` after the fixtures.

    What it returns has what the process prints.
    """

    def begin() -> io.StringIO:
        printed = io.StringIO()
        root = logging.getLogger()
        monkeypatch.setattr(sys, "stdout", printed)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(root, "handlers", [])
        monkeypatch.setattr(root, "level", root.level)
        install()
        return printed

    return begin


def test_lines_come_whole_and_go_on(begin: Begin) -> None:
    printed = begin()
    lines: list[LogLine] = []
    with captured(lines.append):
        print("be", end="")
        print("gin", 1, end="\n\n")
        print("wrong", file=sys.stderr)
        sys.stdout.writelines(["no end ", "\udc80"])
    assert [(line.level, line.message) for line in lines] == [
        ("INFO", "begin 1"),
        ("WARNING", "wrong"),
        ("INFO", "no end \\udc80"),
    ]
    assert printed.getvalue() == "begin 1\n\nno end \udc80"
    print("nobody's")
    assert len(lines) == 3


def test_of_a_line_that_is_drawn_again_the_last_state_is_kept(begin: Begin) -> None:
    begin()
    lines: list[LogLine] = []
    with captured(lines.append):
        for percent in range(0, 101, 10):
            sys.stderr.write(f"\r{percent} %")
        sys.stderr.write("\n")
        print("line\r")
        print("10 %", end="\r")
        print("20 %", end="\r")
        print("x" * MAX_LINE_LENGTH * 2, end="", file=sys.stderr)
    messages = {line.message for line in lines}
    assert messages == {"100 %", "line", "20 %", "x" * MAX_LINE_LENGTH}


def test_records_of_logging_come_with_level_logger_and_traceback(begin: Begin) -> None:
    begin()
    lines: list[LogLine] = []
    log = logging.getLogger("author.model")
    with captured(lines.append):
        log.debug("not asked for")
        log.info("%d weights", 3)
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            log.critical("no way", exc_info=True)
    assert [line.level for line in lines] == ["INFO", "ERROR"]
    assert lines[0].message == "author.model: 3 weights"
    assert "ZeroDivisionError" in lines[1].message


def test_lines_of_runs_at_a_time_go_to_their_own_logs(begin: Begin) -> None:
    """Other threads count for the one run that goes on, and for none where several do."""
    begin()
    together = threading.Barrier(2)

    def run(name: str) -> list[str]:
        lines: list[LogLine] = []
        with captured(lines.append):
            together.wait()
            print(name)
            thread = threading.Thread(target=print, args=("whose?",))
            thread.start()
            thread.join()
            together.wait()
        return [line.message for line in lines]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ["one", "two"])) == [["one"], ["two"]]
    lines: list[LogLine] = []
    with captured(lines.append):
        thread = threading.Thread(target=print, args=("of a thread",))
        thread.start()
        thread.join()
    assert [line.message for line in lines] == ["of a thread"]


def test_a_captured_stream_is_in_all_else_the_stream_it_was(monkeypatch: pytest.MonkeyPatch, begin: Begin) -> None:
    begin()
    with open("/dev/null", "w", encoding="latin-1") as file:  # noqa: PTH123  # a stream with a number
        monkeypatch.setattr(sys.stdout, "_stream", file)
        assert sys.stdout.fileno() == file.fileno()
        assert not sys.stdout.isatty()
        assert sys.stdout.encoding == "latin-1"
        sys.stdout.buffer.write(b"bytes")
