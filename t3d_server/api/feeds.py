"""Follows runs for any number of clients: the coordinator gets one request for each run, for all clients of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime

from t3d_server.api.workers import Workers
from t3d_server.errors import ExpiredError, RunNotFoundError, ServerUnavailableError, StoreUnavailableError
from t3d_server.models import LogLine, Run, RunNews
from t3d_server.run_log import MAX_LINES
from t3d_server.run_store.history import RunHistory
from t3d_server.runs.interface import Runs

HEARTBEAT_S = 10.0
_WAIT_S = 30.0
_INTERVAL_S = 0.1
_RETRY_S = 1.0


class Feeds:
    """The runs that are being followed.

    Args:
        runs: the runs that are open or have ended lately.
        history: the ended ones.
        workers: threads for reading these.
    """

    def __init__(self, runs: Runs, history: RunHistory, workers: Workers) -> None:
        self._runs = runs
        self._history = history
        self._workers = workers
        self._feeds: dict[str, _Feed] = {}

    async def follow(self, run_id: str, after: datetime | None = None) -> AsyncGenerator[RunNews | None]:
        """The state of a run, and then each change, up to its end.

        Args:
            run_id: the run.
            after: only log lines after this time.

        Yields:
            The run with the log lines that are new; None when there was nothing new for `HEARTBEAT_S`.

        Raises:
            Exception: the run cannot be followed any more; a T3dError unless it is a fault of the server.
        """
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = _Feed(lambda feed: self._ask(run_id, feed))
        feed.followers += 1
        try:
            seen: Run | None = None
            while seen is None or not seen.status.ended:
                changed = feed.changed
                news = feed.news(seen, after)
                if news is None:
                    if feed.error is not None:
                        raise feed.error
                    try:
                        async with asyncio.timeout(HEARTBEAT_S):
                            await changed.wait()
                    except TimeoutError:
                        yield None
                    continue
                seen = news.run
                after = news.lines[-1].time if news.lines else after
                yield news
        finally:
            feed.followers -= 1
            if feed.followers == 0:
                feed.stop()
                if self._feeds.get(run_id) is feed:
                    del self._feeds[run_id]

    async def _ask(self, run_id: str, feed: _Feed) -> None:
        """Keep a feed up to date until its run has ended."""
        while feed.run is None or not feed.run.status.ended:
            pause_s = _INTERVAL_S  # changes that follow each other quickly are sent together
            try:
                feed.update(await self.news(run_id, feed.run, feed.latest, _WAIT_S))
            except (ServerUnavailableError, StoreUnavailableError):
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """What is new of a run, open or ended; see `Runs.news`. A log that has expired has no lines.

        Raises:
            RunNotFoundError, ExpiredError: there is no such run.
        """
        try:
            return await self._runs.news(run_id=run_id, seen=seen, after=after, wait_s=wait_s)
        except RunNotFoundError:
            stored = await self._workers.run(self._history.find, run_id)
        lines: list[LogLine] = []
        with suppress(ExpiredError):
            lines = await self._workers.run(self._history.log, stored)
        return RunNews(run=stored.run, lines=[line for line in lines if after is None or line.time > after])


class _Feed:
    """The state of a run that is being followed.

    Attributes:
        run: the run; None until the first answer.
        error: why the run cannot be followed any more.
        followers: how many follow the run.
        changed: is set at the next change; then another event takes its place.
    """

    def __init__(self, ask: Callable[[_Feed], Awaitable[None]]) -> None:
        self.run: Run | None = None
        self.error: BaseException | None = None
        self.followers = 0
        self.changed = asyncio.Event()
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._asking = asyncio.ensure_future(ask(self))
        self._asking.add_done_callback(self._has_ended)

    @property
    def latest(self) -> datetime | None:
        """Time of the last line."""
        return self._lines[-1].time if self._lines else None

    def news(self, seen: Run | None, after: datetime | None) -> RunNews | None:
        """What is new for a follower that has seen this; None if nothing is."""
        if self.run is None or self.run is seen:
            return None
        fresh: list[LogLine] = []
        for line in reversed(self._lines):
            if after is not None and line.time <= after:
                break
            fresh.append(line)
        return RunNews(run=self.run, lines=fresh[::-1])

    def update(self, news: RunNews) -> None:
        """Take the new state and the new lines over."""
        if news.run != self.run or news.lines:
            self.run = news.run
            self._lines.extend(news.lines)
            self._notify()

    def stop(self) -> None:
        """Stop asking: there is no follower any more."""
        self._asking.cancel()

    def _has_ended(self, asking: asyncio.Future[None]) -> None:
        """If asking has failed, pass the error to the followers."""
        if not asking.cancelled() and (error := asking.exception()) is not None:
            self.error = error
            self._notify()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
