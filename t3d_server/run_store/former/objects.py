"""The objects in which runs were stored before there was a log of events, as they are read.

runs/open/<id>.json                                   accepted, not ended
runs/done/<reversed time>-<id>.json                   ended; the time counts down, so that the newest comes first
runs/index/..., runs/of/<algorithm>/...               empty, for lists
runs/logs/<id>.jsonl                                  one line a line; logs of today have a "~" in their names
runs/keys/<sha256 of an idempotency key>.json         the run that was submitted with it
coordinator/<cluster>.json, coordinator/<cluster>.claim    see `former_servers`
"""

from __future__ import annotations

from collections.abc import Iterator

from t3d_server.errors import ObjectNotFoundError
from t3d_server.ids import is_id, milliseconds_of
from t3d_server.models import LogLine, Model, Run
from t3d_server.run_store.records import StoredRun
from t3d_server.storage.base import ObjectStore, exists, read
from t3d_server.storage.keys import RUN_LOGS, run_log_key

OPEN, DONE, KEYS, CLUSTERS = "runs/open/", "runs/done/", "runs/keys/", "coordinator/"
INDEXES = ("runs/index/", "runs/of/")
_LAST_MILLISECOND = 2**48 - 1


def open_key(run_id: str) -> str:
    """Where a run was that had not ended."""
    return f"{OPEN}{run_id}.json"


def done_key(run_id: str) -> str:
    """Where a run was that had ended."""
    return f"{DONE}{_LAST_MILLISECOND - milliseconds_of(run_id):012x}-{run_id}.json"


def id_in(key: str) -> str:
    """The id of a run in the key of its record or its log; "" if there is none."""
    name = key.rpartition("/")[2].partition(".")[0]
    run_id = name.partition("-")[2] if key.startswith(DONE) else name
    return run_id if is_id(run_id) else ""


class _Record(Run):
    owner: str
    key: str = ""


class _KeyHolder(Model):
    run_id: str
    request_sha256: str


class FormerObjects:
    """Reads the objects. All methods block, but for `is_empty`.

    Args:
        store: where they are.

    Attributes:
        is_empty: none are left, so that nobody has to look.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.is_empty = False
        self._store = store

    def any(self) -> bool:
        """Whether there are any."""
        return any(next(iter(self._store.list(folder)), None) is not None for folder in (CLUSTERS, OPEN, DONE))

    def open_ids(self) -> list[str]:
        """Ids of the runs that were accepted and are not filed as ended, oldest first."""
        return [run_id for stat in self._store.list(OPEN) if (run_id := id_in(stat.key))]

    def ended_ids(self, before: str = "") -> Iterator[str]:
        """Ids of the runs that have ended, newest first, read as far as they are asked for.

        Args:
            before: only those that follow this one.
        """
        for stat in self._store.list(DONE, start_after=done_key(before) if before else ""):
            if run_id := id_in(stat.key):
                yield run_id

    def has_ended(self, run_id: str) -> bool:
        """Whether the outcome of a run is stored."""
        return exists(self._store, done_key(run_id))

    def ended(self, run_id: str, *, key: bool = True, log: bool = True) -> StoredRun | None:
        """A run that has ended; None if it is not there any more.

        Args:
            run_id: its id.
            key: whether its idempotency key is of interest.
            log: whether its log is.

        Raises:
            ValidationError: it cannot be read.
        """
        return self._read(done_key(run_id), key=key, log=log)

    def open(self, run_id: str) -> StoredRun | None:
        """A run that has not ended; None if it is not there any more.

        Raises:
            ValidationError: it cannot be read.
        """
        return self._read(open_key(run_id), key=True, log=True)

    def find(self, run_id: str) -> StoredRun | None:
        """A run with all of its log, if it is here."""
        if self.is_empty or not is_id(run_id):
            return None
        return self.ended(run_id) or self.open(run_id)

    def holder(self, key: str) -> StoredRun | None:
        """The run that was accepted with an idempotency key, by the hash of that, if it is here."""
        holder = None if self.is_empty else self._key_holder(key)
        if holder is None or (stored := self.find(holder.run_id)) is None:
            return None
        return stored.model_copy(update={"key": key, "request_sha256": holder.request_sha256})

    def log_keys(self) -> Iterator[str]:
        """Keys of logs."""
        return (stat.key for stat in self._store.list(RUN_LOGS) if "~" not in stat.key)

    def _read(self, record_key: str, *, key: bool, log: bool) -> StoredRun | None:
        try:
            record = _Record.model_validate_json(read(self._store, record_key))
        except ObjectNotFoundError:
            return None
        holder = self._key_holder(record.key) if key and record.key else None
        if holder is not None and holder.run_id != record.id:
            holder = None  # the key has come to stand for another run
        return StoredRun(
            run=Run.model_construct(**{name: getattr(record, name) for name in Run.model_fields}),
            owner=record.owner,
            key="" if holder is None else record.key,
            request_sha256="" if holder is None else holder.request_sha256,
            lines=self._log(record.id) if log else [],
        )

    def _key_holder(self, key: str) -> _KeyHolder | None:
        try:
            return _KeyHolder.model_validate_json(read(self._store, f"{KEYS}{key}.json"))
        except ObjectNotFoundError:
            return None

    def _log(self, run_id: str) -> list[LogLine]:
        try:
            lines = read(self._store, run_log_key(run_id)).splitlines()
        except ObjectNotFoundError:
            return []
        return [LogLine.model_validate_json(line) for line in lines]
