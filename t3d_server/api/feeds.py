"""Follows runs for any number of clients: the coordinator is asked once for each run, however many listen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Protocol

from t3d_server.api.workers import Workers
from t3d_server.errors import RunNotFoundError, ServerUnavailableError, StoreUnavailableError
from t3d_server.models import LogLine, Run, RunNews
from t3d_server.runs.log import MAX_LINES
from t3d_server.runs.records import RunRecords

HEARTBEAT_S = 10.0
_WAIT_S = 30.0
_INTERVAL_S = 0.1
_RETRY_S = 1.0


class NewsSource(Protocol):
    """Who knows the live runs."""

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """See `Coordinator.news`."""


class Feeds:
    """The runs that are being followed.

    Args:
        source: knows the live runs.
        records: the ended runs and their logs.
        workers: threads for reading records.
    """

    def __init__(self, source: NewsSource, records: RunRecords, workers: Workers) -> None:
        self._source = source
        self._records = records
        self._workers = workers
        self._feeds: dict[str, _Feed] = {}

    async def follow(self, run_id: str, after: datetime | None = None) -> AsyncGenerator[RunNews | None]:
        """How a run is, and then whatever is new, up to its end.

        Args:
            run_id: the run.
            after: only log lines after this time.

        Yields:
            The run with the log lines that are new; None when there was nothing new for `HEARTBEAT_S`.

        Raises:
            Exception: it cannot be followed any more; a T3dError where that was to be expected.
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
                        await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
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
            pause_s = _INTERVAL_S  # what comes thick and fast is told together
            try:
                feed.hear(await self._news(run_id, feed))
            except (ServerUnavailableError, StoreUnavailableError):
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def _news(self, run_id: str, feed: _Feed) -> RunNews:
        try:
            news = await self._source.news(run_id, feed.run, feed.latest, _WAIT_S)
        except RunNotFoundError:
            news = RunNews(run=await self._workers.run(self._records.find, run_id), lines=[])
            if not news.run.status.ended:
                await asyncio.sleep(_RETRY_S)  # the coordinator has not taken it up yet
        if not news.run.status.ended:
            return news
        # The log is stored before the end is told, and is whole there.
        log = await self._workers.run(self._records.log, run_id)
        return RunNews(run=news.run, lines=[line for line in log if feed.latest is None or line.time > feed.latest])


class _Feed:
    """What is known of a run that is being followed.

    Attributes:
        run: the run; None until it was heard of.
        error: why nothing more will be heard of it.
        followers: how many listen.
        changed: is set at the next change, which has another one after it.
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
        """What somebody does not know who has seen so much."""
        if self.run is None or self.run is seen:
            return None
        fresh: list[LogLine] = []
        for line in reversed(self._lines):
            if after is not None and line.time <= after:
                break
            fresh.append(line)
        return RunNews(run=self.run, lines=fresh[::-1])

    def hear(self, news: RunNews) -> None:
        """Take in what is new."""
        if news.run != self.run or news.lines:
            self.run = news.run
            self._lines.extend(news.lines)
            self._tell()

    def stop(self) -> None:
        """Nobody listens any more."""
        self._asking.cancel()

    def _has_ended(self, asking: asyncio.Future[None]) -> None:
        """Tell, where it failed, that nothing more will come."""
        if not asking.cancelled() and (error := asking.exception()) is not None:
            self.error = error
            self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
