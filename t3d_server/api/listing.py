"""Pages of runs: live and ended ones merged, newest first; what one page costs is bounded."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from t3d_server.api.workers import Workers
from t3d_server.ids import is_id
from t3d_server.models import Model, Run, RunStatus
from t3d_server.run_store.history import RunHistory
from t3d_server.runs.interface import Runs

MAX_RUNS_PER_PAGE = 500


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
    runs: Runs,
    history: RunHistory,
    workers: Workers,
    *,
    limit: int,
    cursor: str | None,
    algorithm: str | None,
    status: RunStatus | None,
) -> RunPage:
    """A page of runs: those that the coordinator knows, merged with those in pages of the store.

    It may have fewer runs than `limit`, or none, although more follow: only a bounded part of the pages is read.

    Args:
        runs: the runs that are open or have ended lately.
        history: the ended ones.
        workers: threads for reading them.
        limit: most runs on the page.
        cursor: `next_cursor` of the page before.
        algorithm: only runs of this one.
        status: only runs with this status.
    """
    known = await runs.list(limit=limit, before=cursor, algorithm=algorithm, status=status)
    ended, more_ended = list[Run](), False
    if status is None or status.ended:
        ended, more_ended = await workers.run(
            history.newest,
            limit=limit,
            before=cursor,
            algorithm=algorithm,
            status=status,
            snapshot_seq=known.snapshot_seq,
        )
    # A part that is not complete says nothing about runs older than its last one.
    bounds = [part[-1].id for part, more in ((known.runs, known.more), (ended, more_ended)) if more and part]
    found = {run.id: run for run in [*ended, *known.runs] if not bounds or run.id >= max(bounds)}
    page = [found[run_id] for run_id in sorted(found, reverse=True)][:limit]
    more = known.more or more_ended or len(found) > limit
    return RunPage(runs=page, next_cursor=page[-1].id if more and page else None)
