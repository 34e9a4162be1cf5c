"""Finds the newest snapshot of the log of runs."""

from __future__ import annotations

from t3d_server.errors import ObjectNotFoundError
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_SNAPSHOTS


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
