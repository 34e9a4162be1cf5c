"""What a replica tells of a run, with a coordinator that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ray.exceptions import RayError
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.grants import Answer
from t3d_server.runs.log import log_line
from t3d_server.serving.reporter import Reporter

from t3d_server.models import LogLine
from t3d_server.serving import reporter
from tests.runs.bench import in_loop


class Reports:
    """The coordinator's method: each report, and the future of its answer."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[tuple[list[str], bool, asyncio.Future[Answer]]] = asyncio.Queue()

    def remote(self, _: AttemptKey, __: float | None, lines: list[LogLine], *, repeats: bool) -> Awaitable[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.arrived.put_nowait(([line.message for line in lines], repeats, answer))
        return answer


class Desk:
    """The coordinator actor."""

    def __init__(self) -> None:
        self.report = Reports()


@asynccontextmanager
async def reporting(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Reporter, Reports]]:
    monkeypatch.setattr(reporter, "INTERVAL_S", 0.0)
    desk: Any = Desk()
    async with Reporter(desk, AttemptKey("run", 1, "r1")) as reports:
        yield reports, desk.report


def said(reports: Reporter) -> Callable[[str], None]:
    return lambda text: reports.log(log_line(text, "INFO"))


@in_loop
async def test_a_report_waits_for_the_answer_to_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one would overtake a long one, whose lines would count as heard; who asks gets the one answer."""
    loop = asyncio.get_running_loop()

    async def answered(answer: asyncio.Future[Answer]) -> Answer:
        return await answer

    def get(answer: asyncio.Future[Answer], timeout: float) -> Answer:
        return asyncio.run_coroutine_threadsafe(answered(answer), loop).result(timeout)

    monkeypatch.setattr("ray.get", get)
    async with reporting(monkeypatch) as (reports, desk):
        say = said(reports)
        say("long")
        lines, _, answer = await desk.arrived.get()
        say("short")
        stops = asyncio.create_task(asyncio.to_thread(reports.cancelled))
        await asyncio.sleep(0.01)
        assert (lines, desk.arrived.empty()) == (["long"], True)
        answer.set_result(Answer(go_on=False))
        assert await stops
        lines, _, _ = await desk.arrived.get()
        assert lines == ["short"]


@in_loop
async def test_lines_that_the_coordinator_may_not_have_got_go_with_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reporting(monkeypatch) as (reports, desk):
        say = said(reports)
        say("sent")
        await desk.arrived.get()
        say("not sent")
    assert [line.message for line in reports.unsent_lines()] == ["sent", "not sent"]


@pytest.mark.parametrize("failed", [True, False])
@in_loop
async def test_lines_that_were_not_taken_are_sent_again(monkeypatch: pytest.MonkeyPatch, failed: bool) -> None:
    """With those that the coordinator may have lost."""
    async with reporting(monkeypatch) as (reports, desk):
        say = said(reports)
        say("taken")
        (await desk.arrived.get())[2].set_result(Answer(go_on=True))
        say("not taken")
        answer = (await desk.arrived.get())[2]
        if failed:
            answer.set_exception(RayError("the coordinator cannot start yet"))
        else:
            answer.set_result(Answer(go_on=True, repeat=True))
        lines, repeats, _ = await desk.arrived.get()
        assert (lines, repeats) == (["taken", "not taken"], True)
