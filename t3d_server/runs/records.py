"""Durable records of runs in the object store.

    runs/open/<id>.json                                        accepted, not ended
    runs/done/<reversed time>-<id>.json                        ended
    runs/index/<reversed time>-<id>~<algorithm>~<status>       empty, for listing without reading records
    runs/logs/<id>.jsonl                                       one log line a line

The reversed time counts down, so that the newest run sorts first; it is computed from the id (UUID version 7), so
that looking up a run is one read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from t3d_server.errors import ObjectNotFoundError, RunNotFoundError
from t3d_server.ids import is_id, milliseconds_of
from t3d_server.models import LogLine, Run, RunStatus
from t3d_server.storage.base import ObjectStore, exists, read

logger = logging.getLogger(__name__)

OPEN, DONE, INDEX, LOGS = "runs/open/", "runs/done/", "runs/index/", "runs/logs/"
_LAST_MILLISECOND = 2**48 - 1


def _newest_first(run_id: str) -> str:
    return f"{_LAST_MILLISECOND - milliseconds_of(run_id):012x}-{run_id}"


class RunRecords:
    """Reads and writes the records of runs.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def accept(self, run: Run) -> None:
        """Store a run that has not ended; from now on it will not be forgotten."""
        self._store.put(f"{OPEN}{run.id}.json", run.model_dump_json().encode())

    def end(self, run: Run, lines: Iterable[LogLine]) -> None:
        """Store the outcome of a run and its log: from now on it has ended. Writing it again changes nothing."""
        log = "".join(f"{line.model_dump_json()}\n" for line in lines)
        if log:
            self._store.put(f"{LOGS}{run.id}.jsonl", log.encode())
        self._store.put(f"{DONE}{_newest_first(run.id)}.json", run.model_dump_json().encode())

    def file(self, run: Run) -> None:
        """Put a run that has ended into the index, and out of the open ones. Doing it again changes nothing."""
        self._store.put(f"{INDEX}{_newest_first(run.id)}~{run.algorithm}~{run.status}", b"")
        self._store.delete(f"{OPEN}{run.id}.json")

    def find(self, run_id: str) -> Run:
        """A run by its id.

        Raises:
            RunNotFoundError: there is none.
        """
        if is_id(run_id):
            for key in (f"{DONE}{_newest_first(run_id)}.json", f"{OPEN}{run_id}.json"):
                try:
                    return Run.model_validate_json(read(self._store, key))
                except ObjectNotFoundError:
                    continue
        raise RunNotFoundError(f"there is no run {run_id!r}; `t3d runs` lists those there are")

    def has_ended(self, run_id: str) -> bool:
        """Whether the outcome of a run is stored."""
        return exists(self._store, f"{DONE}{_newest_first(run_id)}.json")

    def open_runs(self) -> Iterator[Run]:
        """Every run that was accepted and has not ended, oldest first; a record that cannot be read is passed over."""
        for stat in self._store.list(OPEN):
            try:
                yield Run.model_validate_json(read(self._store, stat.key))
            except ValidationError:
                logger.exception("the record %s cannot be read", stat.key)

    def ended_runs(
        self, *, algorithm: str | None = None, status: RunStatus | None = None, start_after: str | None = None
    ) -> Iterator[str]:
        """Ids of ended runs, newest first, from the index alone.

        Args:
            algorithm: only runs of this one.
            status: only runs that ended so.
            start_after: the id of a run; only those that are older.
        """
        # "~" sorts after "-": every index entry of that run lies before it.
        after = f"{INDEX}{_newest_first(start_after)}~~" if start_after else ""
        for stat in self._store.list(INDEX, start_after=after):
            entry, ended_algorithm, ended_status = stat.key.removeprefix(INDEX).split("~")
            if algorithm in (None, ended_algorithm) and status in (None, ended_status):
                yield entry.partition("-")[2]

    def log(self, run_id: str) -> list[LogLine]:
        """The stored log of an ended run; empty where it logged nothing."""
        try:
            text = read(self._store, f"{LOGS}{run_id}.jsonl").decode()
        except ObjectNotFoundError:
            return []
        return [LogLine.model_validate_json(line) for line in text.splitlines()]
