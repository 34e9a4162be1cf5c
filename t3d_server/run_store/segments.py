"""Segments and snapshots of the log of runs, as objects of the store."""

from __future__ import annotations

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError
from t3d_server.run_store.events import header_of
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_SNAPSHOTS, segment_key


def seq_of(key: str) -> int:
    """Number in the key of a segment or a snapshot."""
    return int(key.rpartition("/")[2].partition(".")[0])


def newest_snapshot(store: ObjectStore) -> tuple[str, bytes] | None:
    """Key and content of the newest snapshot; None if there is none."""
    while keys := [stat.key for stat in store.list(RUN_SNAPSHOTS)]:
        try:
            return keys[-1], read(store, keys[-1])
        except ObjectNotFoundError:  # a newer one has come, and this one has gone
            continue
    return None


def put_segment(store: ObjectStore, seq: int, batch: str, segment: bytes) -> bool:
    """Write a segment; whether the number was free, also where an earlier try has written it unnoticed."""
    try:
        store.put(segment_key(seq), segment, if_absent=True)
    except ObjectExistsError:
        try:
            return header_of(read(store, segment_key(seq))).batch == batch
        except ObjectNotFoundError:  # it was there, and has been removed: this process is far behind
            return False
    return True


def is_at_end(store: ObjectStore, seq: int) -> bool:
    """Whether a segment that was just stored is at the end of the log; else it is removed.

    No number is removed that may be a member's next one. Who is about to join may have been away for so long that its
    number was taken, and removed after a snapshot had it.
    """
    if all(seq_of(stat.key) < seq for stat in store.list(RUN_SNAPSHOTS)):
        return True
    store.delete(segment_key(seq))
    return False
