"""Many runs of the former layout, some at a time."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.pages import PageReader

PARALLEL_READS = 4
"""More would have the log of events wait for a thread."""
BATCH = 1000

T = TypeVar("T")
U = TypeVar("U")


async def for_each(log: EventLog, function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """What a function that blocks returns for each item; some are worked on at a time."""
    todo = iter(list(enumerate(items)))

    async def work() -> list[tuple[int, U]]:
        return [(number, await log.in_thread(function, item)) for number, item in todo]

    found = [each for done in await asyncio.gather(*(work() for _ in range(PARALLEL_READS))) for each in done]
    return [result for _, result in sorted(found, key=lambda each: each[0])]


async def batches(log: EventLog, keys: Iterator[str]) -> AsyncIterator[list[str]]:
    """What a listing yields, some at a time."""
    while batch := await log.in_thread(lambda: list(islice(keys, BATCH))):
        yield batch


async def known_among(log: EventLog, reader: PageReader, run_ids: Collection[str]) -> set[str]:
    """Those of these runs that the log of events has."""
    state = log.state
    known = {run_id for run_id in run_ids if state.find(run_id) is not None}
    others = sorted(set(run_ids) - known)
    pages = [
        page
        for page in state.pages.values()
        if (at := bisect_left(others, page.first)) < len(others) and others[at] <= page.last
    ]
    for page in pages:
        rows = await log.in_thread(reader.index, page)
        known |= {row.id for row in rows}.intersection(others)
    return known
