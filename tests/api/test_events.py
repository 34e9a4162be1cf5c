"""Events of runs: the stream, coming back to it, and following by the client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from t3d_server.api import runs as routes
from t3d_server.api.events import stream_events
from t3d_server.api.feeds import Feeds
from t3d_server.client.events import ServerSentEvent, parsed
from t3d_server.errors import RunNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import Run, RunNews

if TYPE_CHECKING:
    from tests.api.conftest import Server


def submit(server: Server, **args: Any) -> str:
    with server.client() as client:
        return client.submit("probe", np.zeros((4, 5), np.uint8), args=args).id


def listen(server: Server, run_id: str, last_id: str = "") -> list[ServerSentEvent]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with server.request("GET", f"/v1/runs/{run_id}/events", stream=True, headers=headers) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return list(parsed(response.iter_lines(chunk_size=None), last_id))


def test_the_stream_has_the_log_and_the_run_and_ends_with_it(server: Server) -> None:
    events = listen(server, submit(server))
    logged = [json.loads(event.data)["message"] for event in events if event.kind == "log"]
    assert logged == ["mode add"]
    *_, last = events
    assert (last.kind, last.id, json.loads(last.data)["status"]) == ("run", "end", "COMPLETED")


def test_who_comes_back_is_told_what_came_after(server: Server) -> None:
    run_id = submit(server)
    events = listen(server, run_id)
    [log] = [event for event in events if event.kind == "log"]
    assert [event.kind for event in listen(server, run_id, str(int(log.id) - 1))] == ["log", "run"]
    assert [event.kind for event in listen(server, run_id, log.id)] == ["run"]
    answer = server.request("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "end"})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("last_id", ["later", "-1", "9" * 30, "½"])
def test_an_id_of_no_event_is_refused(server: Server, last_id: str) -> None:
    headers = {"Last-Event-ID": last_id.encode()}
    answer = server.request("GET", f"/v1/runs/{submit(server)}/events", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["key"]) == (422, "Last-Event-ID")


def test_an_unknown_run_is_told_before_the_stream_begins(server: Server) -> None:
    assert server.request("GET", f"/v1/runs/{new_id()}/events").json()["code"] == "run_not_found"
    with server.client() as client, pytest.raises(RunNotFoundError):
        next(client.follow(new_id()))


def test_following_goes_on_when_the_connection_breaks_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection gives two events: no line of the log is missing or told twice."""

    async def short(*given: Any) -> AsyncGenerator[bytes]:
        count = 0
        async for event in stream_events(*given):
            yield event
            if (count := count + 1) == 2:
                return

    monkeypatch.setattr(routes, "stream_events", short)
    with server.client() as client:
        handle = client.handle(submit(server, mode="fail"))
        lines = [line.message for event in handle.events() for line in event.lines]
        assert lines == [line.message for line in client.log(handle.id)]
        assert [line.partition("\n")[0] for line in lines] == ["mode fail", "Traceback (most recent call last):"]
        assert handle.run.status.ended


def test_a_run_can_be_cancelled_while_it_is_followed(server: Server) -> None:
    with server.client() as client:
        handle = client.handle(submit(server, mode="forever"))
        with closing(handle.events()) as events:
            seen = [event.progress for event in events if event.progress != 0.25 or handle.cancel()]
    assert seen[-1] == 1.0
    assert handle.run.status == "CANCELLED"


def test_many_followers_ask_the_coordinator_once_and_leave_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = server.service.runs.news

    async def counted(*, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        nonlocal asked
        asked += 1
        return await ask(run_id=run_id, seen=seen, after=after, wait_s=wait_s)

    monkeypatch.setattr(server.service.runs, "news", counted)
    run_id = submit(server, mode="forever")
    followers, begun = 20, threading.Barrier(21)
    ended: list[str] = []

    def follow() -> None:
        with server.client() as client:
            events = client.follow(run_id)
            next(events)
            begun.wait(60)
            ended.extend(run.status for run, _ in events if run.status.ended)

    threads = [threading.Thread(target=follow) for _ in range(followers)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    before = asked
    with server.client() as client:
        client.cancel(run_id)
    for thread in threads:
        thread.join(60)
    assert ended == ["CANCELLED"] * followers
    assert asked - before < followers
    feeds: Feeds = server.service.feeds
    while run_id in feeds._feeds:
        time.sleep(0.01)  # a client has the last event before the server is done with it
