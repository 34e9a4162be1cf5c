"""Durable records of runs in the object store.

    runs/open/<id>.json                                        accepted, not ended
    runs/done/<reversed time>-<id>.json                        ended
    runs/index/<reversed time>-<id>~<algorithm>~<status>       empty, for listing without reading records
    runs/of/<algorithm>/<the same>                             likewise, for listing those of one algorithm
    runs/logs/<id>.jsonl                                       one log line a line
    runs/keys/<sha256 of an Idempotency-Key>.json              the run that was submitted with it

The reversed time counts down, so that the newest run sorts first; it is computed from the id (UUID version 7), so
that looking up a run is one read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from pydantic import ValidationError

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError, RunNotFoundError
from t3d_server.ids import is_id, milliseconds_of
from t3d_server.models import LogLine, Model, Run, RunStatus
from t3d_server.storage.base import ObjectStore, exists, read
from t3d_server.storage.retention import Retention, remove_expired, remove_expired_unordered

logger = logging.getLogger(__name__)

OPEN, DONE, LOGS, KEYS = "runs/open/", "runs/done/", "runs/logs/", "runs/keys/"
PARALLEL_READS = 8
_LAST_MILLISECOND = 2**48 - 1


def _newest_first(run_id: str) -> str:
    return f"{_LAST_MILLISECOND - milliseconds_of(run_id):012x}-{run_id}"


def _index(algorithm: str | None) -> str:
    """The folder of index entries, of all runs or of an algorithm's."""
    return "runs/index/" if algorithm is None else f"runs/of/{algorithm}/"


def _index_keys(run: Run) -> list[str]:
    entry = f"{_newest_first(run.id)}~{run.algorithm}~{run.status}"
    return [_index(None) + entry, _index(run.algorithm) + entry]


def v0_key(run_id: str) -> str:
    """Where the v0 API keeps what it was asked for, beside the record."""
    return f"executions/v0/{run_id}.json"


def _jsonl(lines: Iterable[LogLine]) -> bytes:
    return "".join(f"{line.model_dump_json()}\n" for line in lines).encode()


def _id_of(key: str) -> str:
    """The id in a key under `runs/done/`."""
    return key.removeprefix(DONE).removesuffix(".json").partition("-")[2]


@dataclass(frozen=True)
class EndedRun:
    """What the index tells of a run.

    Attributes:
        id: its id.
        algorithm: what was run.
        status: how it ended.
    """

    id: str
    algorithm: str
    status: RunStatus


class Record(Run):
    """A run as it is stored.

    Attributes:
        owner: the cluster that has it, see `ownership`.
        key: the object under `runs/keys/` that leads to it; "" if there is none.
        logged: there was something in its log.
    """

    owner: str
    key: str = ""
    logged: bool = False

    @classmethod
    def of(cls, run: Run, **fields: Any) -> Self:
        """The record of a run."""
        return cls.model_construct(**dict(run), **fields)

    def run(self) -> Run:
        """The run alone."""
        return Run.model_construct(**{name: getattr(self, name) for name in Run.model_fields})


class KeyHolder(Model):
    """What an idempotency key stands for.

    Attributes:
        run_id: the run that was submitted with it.
        request_sha256: hash of what was asked for.
    """

    run_id: str
    request_sha256: str


class RunRecords:
    """Reads and writes the records of runs.

    Args:
        store: where they are kept.
        keep_s: how long the record of a run is kept, from its submission on; None for ever.
        keep_logs_s: how long its log is kept; None as long as the record.
    """

    def __init__(self, store: ObjectStore, *, keep_s: float | None = None, keep_logs_s: float | None = None) -> None:
        self._store = store
        self._retention = Retention("run", keep_s, "T3D_KEEP_RUNS_S")
        self._log_retention = Retention("the log of run", keep_logs_s, "T3D_KEEP_LOGS_S")

    def save(self, run: Run) -> None:
        """Store a run that has not ended; from now on it will not be forgotten."""
        self._store.put(f"{OPEN}{run.id}.json", run.model_dump_json().encode())

    def save_log(self, run_id: str, lines: Iterable[LogLine]) -> None:
        """Store the log so far of a run that has not ended."""
        self._store.put(f"{LOGS}{run_id}.jsonl", _jsonl(lines))

    def end(self, run: Run, lines: Iterable[LogLine]) -> Run | None:
        """Store the outcome of a run and its log: from now on it has ended. Writing it again changes nothing.

        Returns:
            The run as it has ended where an outcome was stored before: the first one counts.
        """
        key = f"{DONE}{_newest_first(run.id)}.json"
        try:
            self._put_log(run.id, lines)
            self._store.put(key, run.model_dump_json().encode(), if_absent=True)
        except ObjectExistsError:
            return Run.model_validate_json(read(self._store, key))
        return None

    def file(self, run: Run) -> None:
        """Put a run that has ended into the index, and out of the open ones. Doing it again changes nothing."""
        for key in _index_keys(run):
            self._store.put(key, b"")
        self._store.delete(f"{OPEN}{run.id}.json")

    def find(self, run_id: str) -> Run:
        """A run by its id.

        Raises:
            RunNotFoundError: there is none.
            ExpiredError: there is none any more.
        """
        if is_id(run_id):
            for key in (f"{DONE}{_newest_first(run_id)}.json", f"{OPEN}{run_id}.json"):
                try:
                    return Run.model_validate_json(read(self._store, key))
                except ObjectNotFoundError:
                    continue
        raise self._retention.expired(run_id) or RunNotFoundError(
            f"there is no run {run_id!r}; `t3d runs` lists those there are"
        )

    def has_ended(self, run_id: str) -> bool:
        """Whether the outcome of a run is stored."""
        return exists(self._store, f"{DONE}{_newest_first(run_id)}.json")

    def ended_among(self, run_ids: Collection[str]) -> set[str]:
        """Those of these runs whose outcome is stored."""
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return {run_id for run_id, ended in zip(run_ids, pool.map(self.has_ended, run_ids), strict=True) if ended}

    def open_ids(self) -> set[str]:
        """Ids of the runs that were accepted and are not filed as ended."""
        return {stat.key.removeprefix(OPEN).removesuffix(".json") for stat in self._store.list(OPEN)}

    def open_runs(self, run_ids: Collection[str] | None = None) -> list[Record]:
        """Runs that were accepted and are not filed as ended, oldest first; what cannot be read is passed over.

        Args:
            run_ids: which ones; all where None.
        """
        keys = [f"{OPEN}{run_id}.json" for run_id in sorted(self.open_ids() if run_ids is None else run_ids)]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            records = list(pool.map(self._open_run, keys))
        return [record for record in records if record is not None]

    def key_holder(self, key: str) -> KeyHolder | None:
        """What an idempotency key stands for, if for anything."""
        try:
            return KeyHolder.model_validate_json(read(self._store, f"{KEYS}{key}.json"))
        except ObjectNotFoundError:
            return None

    def hold_key(self, key: str, holder: KeyHolder) -> KeyHolder:
        """Have an idempotency key stand for a run.

        Returns:
            What it stands for: the first one that was given.
        """
        try:
            self._store.put(f"{KEYS}{key}.json", holder.model_dump_json().encode(), if_absent=True)
        except ObjectExistsError:
            return self.key_holder(key) or holder
        return holder

    def ended_runs(self, algorithm: str | None = None, *, start_after: str | None = None) -> Iterator[EndedRun]:
        """Ended runs, newest first, from the index alone, which is read as far as it is asked for.

        Args:
            algorithm: only runs of this one.
            start_after: the id of a run; only those that are older.
        """
        # "~" sorts after "-": every index entry of that run lies before it.
        index = _index(algorithm)
        after = f"{index}{_newest_first(start_after)}~~" if start_after else ""
        for stat in self._store.list(index, start_after=after):
            entry, name, status = stat.key.removeprefix(index).split("~")
            yield EndedRun(entry.partition("-")[2], name, RunStatus(status))

    def log(self, run_id: str) -> list[LogLine]:
        """The stored log of an ended run; empty where it logged nothing.

        Raises:
            ExpiredError: it is not kept any more.
        """
        try:
            text = read(self._store, f"{LOGS}{run_id}.jsonl").decode()
        except ObjectNotFoundError as error:
            if (expired := self._log_retention.expired(run_id)) is not None:
                raise expired from error
            return []
        return [LogLine.model_validate_json(line) for line in text.splitlines()]

    @property
    def expires(self) -> bool:
        """Whether runs or their logs expire."""
        return bool(self._retention or self._log_retention)

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        """Remove ended runs that have expired, with their logs and idempotency keys.

        Args:
            spared: runs that stay.
            limit: most runs to remove.

        Returns:
            How many were removed.
        """
        before = self._retention.removable_before()
        if before is None:
            return 0
        after = f"{DONE}{_LAST_MILLISECOND - round(before.timestamp() * 1000):012x}"
        keys = (stat.key for stat in self._store.list(DONE, start_after=after))
        doomed = list(islice((key for key in keys if _id_of(key) not in spared), limit))
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            list(pool.map(self._remove, doomed))
        return len(doomed)

    def remove_expired_logs(self, limit: int) -> int:
        """Remove some of the logs that have expired, at most `limit`; returns how many."""
        return remove_expired(self._store, LOGS, ".jsonl", self._log_retention, limit=limit)

    def remove_expired_keys(self, spared: Collection[str], limit: int) -> int:
        """Remove some of the idempotency keys that have expired and whose runs were never recorded: others go with
        their runs.

        Args:
            spared: runs whose keys stay.
            limit: most keys to remove.

        Returns:
            How many were removed.
        """

        def stays(key: str) -> bool:
            holder = self.key_holder(key.removeprefix(KEYS).removesuffix(".json"))
            return holder is not None and holder.run_id in spared

        return remove_expired_unordered(self._store, KEYS, self._retention, limit=limit, stays=stays)

    def _put_log(self, run_id: str, lines: Iterable[LogLine]) -> None:
        """Store the log of a run, unless it has ended with another one.

        Raises:
            ObjectExistsError: it has.
        """
        log = _jsonl(lines)
        key = f"{LOGS}{run_id}.jsonl"
        try:
            if log:
                self._store.put(key, log, if_absent=True)
        except ObjectExistsError:
            if self.has_ended(run_id):
                raise
            self._store.put(key, log)  # of the time while it went on

    def _remove(self, key: str) -> None:
        """Remove an ended run and what belongs to it; its record goes last, so that a crash leaves it to the next."""
        try:
            record = Record.model_validate_json(read(self._store, key))
        except ObjectNotFoundError:
            return
        except ValidationError:
            logger.exception("the record %s cannot be read", key)
        else:
            holder = self.key_holder(record.key) if record.key else None
            if holder is not None and holder.run_id == record.id:  # else the key has come to stand for another run
                self._store.delete(f"{KEYS}{record.key}.json")
            for entry in _index_keys(record):
                self._store.delete(entry)
        self._store.delete(f"{LOGS}{_id_of(key)}.jsonl")
        self._store.delete(v0_key(_id_of(key)))
        self._store.delete(key)

    def _open_run(self, key: str) -> Record | None:
        try:
            return Record.model_validate_json(read(self._store, key))
        except ObjectNotFoundError:  # it has ended meanwhile
            return None
        except ValidationError:
            logger.exception("the record %s cannot be read", key)
            return None
