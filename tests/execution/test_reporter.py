"""What a replica reports on a run, to a coordinator that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.errors import ServerUnavailableError
from t3d_server.execution import reporter
from t3d_server.execution.reporter import Reporter
from t3d_server.run_log import log_line
from t3d_server.runs.interface import AttemptKey, Lines, ReportAnswer
from tests.runs.bench import in_loop


class Coordinator:
    """Takes each report, with the future of its answer."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[tuple[float | None, Lines, asyncio.Future[ReportAnswer]]] = asyncio.Queue()

    async def report(self, *, attempt: AttemptKey, progress: float | None, lines: Lines) -> ReportAnswer:
        answer: asyncio.Future[ReportAnswer] = asyncio.get_running_loop().create_future()
        self.arrived.put_nowait((progress, lines, answer))
        return await answer

    async def next(self) -> tuple[float | None, tuple[int, list[str]], asyncio.Future[ReportAnswer]]:
        progress, lines, answer = await self.arrived.get()
        return progress, (lines.first, [line.message for line in lines.lines]), answer


@asynccontextmanager
async def reporting(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Reporter, Coordinator]]:
    monkeypatch.setattr(reporter, "INTERVAL_S", 0.0)
    coordinator: Any = Coordinator()
    loop = asyncio.get_running_loop()

    def wait(work: Coroutine[Any, Any, None], timeout_s: float) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)

    async with Reporter(coordinator, AttemptKey("run", 1, "r1"), SYSTEM_CLOCK, wait) as reports:
        yield reports, coordinator


def writes(reports: Reporter) -> Callable[[str], None]:
    return lambda text: reports.log(log_line(text, "INFO", SYSTEM_CLOCK.now()))


@in_loop
async def test_a_report_waits_for_the_answer_to_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one would overtake a long one; who asks whether to stop gets the one answer."""
    async with reporting(monkeypatch) as (reports, coordinator):
        write = writes(reports)
        write("long")
        _, lines, answer = await coordinator.next()
        write("short")
        stops = asyncio.create_task(asyncio.to_thread(reports.cancelled))
        await asyncio.sleep(0.01)
        assert (lines, coordinator.arrived.empty()) == ((0, ["long"]), True)
        answer.set_result(ReportAnswer(go_on=False))
        assert await stops
        assert (await coordinator.next())[1] == (1, ["short"])


@in_loop
async def test_lines_that_the_coordinator_may_not_have_got_go_with_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reporting(monkeypatch) as (reports, coordinator):
        write = writes(reports)
        write("taken")
        (await coordinator.next())[2].set_result(ReportAnswer(go_on=True))
        await asyncio.sleep(0)
        write("sent")
        await coordinator.next()
        write("not sent")
    unsent = reports.unsent()
    assert (unsent.first, [line.message for line in unsent.lines]) == (1, ["sent", "not sent"])


@in_loop
async def test_a_report_that_failed_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and progress, unless there is newer progress."""
    async with reporting(monkeypatch) as (reports, coordinator):
        write = writes(reports)
        reports.progress(0.5)
        write("first")
        (await coordinator.next())[2].set_exception(ServerUnavailableError("the coordinator cannot start yet"))
        assert (await coordinator.next())[:2] == (0.5, (0, ["first"]))


@in_loop
async def test_lines_that_the_coordinator_has_lost_are_sent_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reporting(monkeypatch) as (reports, coordinator):
        write = writes(reports)
        for text in ("zero", "one"):
            write(text)
            (await coordinator.next())[2].set_result(ReportAnswer(go_on=True))
            await asyncio.sleep(0)
        write("two")
        (await coordinator.next())[2].set_result(ReportAnswer(go_on=True, resend_from=1))
        assert (await coordinator.next())[1] == (1, ["one", "two"])


@in_loop
async def test_lines_that_are_not_kept_any_more_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t3d_server.run_log.MAX_LINES", 2)
    async with reporting(monkeypatch) as (reports, _):
        write = writes(reports)
        for number in range(5):
            write(str(number))
        unsent = reports.unsent()
        assert (unsent.first, len(unsent.lines), unsent.complete) == (3, 2, True)


@in_loop
async def test_a_run_goes_on_while_the_coordinator_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reporting(monkeypatch) as (reports, coordinator):
        asking = asyncio.create_task(asyncio.to_thread(reports.cancelled))
        (await coordinator.next())[2].set_exception(ServerUnavailableError("it starts again"))
        assert not await asking


@in_loop
async def test_a_report_comes_also_without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """By it a coordinator that was started again learns of the attempt."""
    monkeypatch.setattr(reporter, "HEARTBEAT_S", 0.0)
    async with reporting(monkeypatch) as (_, coordinator):
        assert (await coordinator.next())[:2] == (None, (0, []))
