"""Logs of runs that are objects of their own: those of runs that last for some seconds, and long ones.

    runs/logs/<run id>~<writer>.jsonl       a header line, then one log line a line

Each process writes its own object, so that none overwrites what another one has stored.
"""

from __future__ import annotations

from collections.abc import Iterable

from t3d_server.errors import ObjectNotFoundError
from t3d_server.models import LogLine, Model
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import run_log_key

SMALL_LOG_BYTES = 16 * 1024
"""A log of an ended run that is no longer stands with the run."""


class StoredLog(Model):
    """A log as it was stored.

    Attributes:
        attempt: number of the attempt that went on; 0 for none.
        heard: how many lines of that attempt are in it.
        lines: all lines.
    """

    attempt: int = 0
    heard: int = 0
    lines: list[LogLine] = []


def write_log(store: ObjectStore, name: str, log: StoredLog) -> None:
    """Store a log."""
    header = log.model_dump_json(exclude={"lines"})
    lines = [header, *(line.model_dump_json() for line in log.lines)]
    store.put(run_log_key(name), "".join(f"{line}\n" for line in lines).encode())


def read_log(store: ObjectStore, name: str) -> StoredLog:
    """A log; empty where it is not there any more."""
    try:
        header, *lines = read(store, run_log_key(name)).splitlines()
    except ObjectNotFoundError:
        return StoredLog()
    found = StoredLog.model_validate_json(header)
    return found.model_copy(update={"lines": [LogLine.model_validate_json(line) for line in lines]})


def size_bytes(lines: Iterable[LogLine]) -> int:
    """About how many bytes a log takes."""
    return sum(80 + len(line.message.encode()) for line in lines)
