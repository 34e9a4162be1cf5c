"""Pages of runs: live and ended ones merged, newest first; what one page costs is bounded."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence

from pydantic_core import PydanticCustomError

from t3d_server.api.workers import Workers
from t3d_server.errors import NotFoundError
from t3d_server.ids import is_id, milliseconds_of
from t3d_server.models import Model, Run, RunStatus
from t3d_server.packages.manifest import NAME
from t3d_server.runs.records import EndedRun, RunRecords

MAX_RUNS_PER_PAGE = 500
MAX_LOOKED_AT = 1999
"""Most runs that are looked at for one page; with the one after them, two requests to the store's index."""


class RunPage(Model):
    """A page of runs, newest first.

    Attributes:
        runs: the runs.
        next_cursor: gives the next page, also after one that has few runs, or none; None on the last one.
    """

    runs: list[Run]
    next_cursor: str | None = None


def known_cursor(cursor: str) -> str:
    """The cursor, if a page may end with it; else pydantic's error."""
    if not is_id(cursor):
        raise PydanticCustomError(
            "unknown_cursor", "found {found}, give next_cursor as it was", {"found": f"{cursor!r:.80}"}
        )
    return cursor


async def list_runs(
    live: Sequence[Run],
    records: RunRecords,
    workers: Workers,
    *,
    limit: int,
    cursor: str | None,
    algorithm: str | None,
    status: RunStatus | None,
) -> RunPage:
    """A page of runs.

    One of a rare status may have fewer runs than it may have, or none, and yet a next one: a bounded part of the index
    is looked at, which is that of the algorithm where one is given.

    Args:
        live: the live runs, as they were before this is called: one that ends in between is met twice, not never.
        records: the ended runs.
        workers: threads for reading them.
        limit: most runs on the page.
        cursor: `next_cursor` of the page before.
        algorithm: only runs of this one.
        status: only runs that are there.
    """

    def fits(run: Run | EndedRun) -> bool:
        return algorithm in (None, run.algorithm) and status in (None, run.status)

    alive = {run.id: run for run in live if fits(run) and (cursor is None or _age(run.id) > _age(cursor))}

    some = (status is None or status.ended) and (algorithm is None or NAME.fullmatch(algorithm))

    def ids() -> tuple[list[str], str | None]:
        ended = records.ended_runs(algorithm, start_after=cursor) if some else ()
        return _one_page(alive, ended, fits, limit)

    async def listed(run_id: str) -> Run | None:
        try:
            return alive.get(run_id) or await workers.run(records.find, run_id)
        except NotFoundError:  # its record was removed meanwhile
            return None

    page, next_cursor = await workers.run(ids)
    runs = await asyncio.gather(*map(listed, page))
    return RunPage(runs=[run for run in runs if run is not None], next_cursor=next_cursor)


def _age(run_id: str) -> tuple[int, str]:
    """Sorts ids as the index of ended runs does: newest first."""
    return -milliseconds_of(run_id), run_id


def _one_page(
    live: Iterable[str], ended: Iterable[EndedRun], fits: Callable[[EndedRun], bool], limit: int
) -> tuple[list[str], str | None]:
    """A page.

    Args:
        live: ids of the live runs that fit.
        ended: the ended runs in order; some of them may be among the live ones.
        fits: whether an ended run is to be on a page.
        limit: most runs on the page.

    Returns:
        Ids of runs, and after which run the next page begins; None if there is none.
    """
    found: list[str] = []
    latest = None
    looked_at = 0
    fitting = ((_age(run_id), run_id, True) for run_id in sorted(live, key=_age))
    merged = heapq.merge(fitting, ((_age(run.id), run.id, fits(run)) for run in ended))
    for _, run_id, fit in merged:
        if run_id == latest:
            continue
        if len(found) == limit or looked_at == MAX_LOOKED_AT:
            return found, latest
        latest = run_id
        looked_at += 1
        if fit:
            found.append(run_id)
    return found, None
