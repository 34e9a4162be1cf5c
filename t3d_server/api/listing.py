"""Pages of runs: live and ended ones merged, newest first; what one page costs is bounded."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from t3d_server.ids import milliseconds_of
from t3d_server.runs.records import EndedRun

MAX_LOOKED_AT = 1999
"""Most runs that are looked at for one page; with the one after them, two requests to the store's index."""


def age(run_id: str) -> tuple[int, str]:
    """Sorts ids as the index of ended runs does: newest first."""
    return -milliseconds_of(run_id), run_id


def one_page(
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
    fitting = ((age(run_id), run_id, True) for run_id in sorted(live, key=age))
    merged = heapq.merge(fitting, ((age(run.id), run.id, fits(run)) for run in ended))
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
