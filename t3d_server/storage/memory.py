"""An object store in this process's memory: for tests and for debugging without a server."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError
from t3d_server.ids import new_id
from t3d_server.storage.base import ObjectStat

_CHUNK_BYTES = 1 << 20


class MemoryObjectStore:
    """Keeps objects in a dictionary; they live as long as it does.

    There is no server behind it that two processes could share: a pickled copy is a snapshot that
    goes its own way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, bytes] = {}
        self._stats: dict[str, ObjectStat] = {}

    def prepare(self) -> None:
        """Do nothing: memory is always there."""

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        """Store an object, replacing what is there; see `ObjectStore.put`."""
        content = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else data.read()
        with self._lock:
            if if_absent and key in self._objects:
                raise ObjectExistsError(f"The key {key!r} holds an object already.")
            self._objects[key] = content
            self._stats[key] = _stat(key, content)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        """Stream an object or a range of it; see `ObjectStore.get`."""
        content = self._content(key)
        end = len(content) if length is None else min(offset + length, len(content))
        return (content[at : min(at + _CHUNK_BYTES, end)] for at in range(offset, end, _CHUNK_BYTES))

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object; see `ObjectStore.stat`."""
        with self._lock:
            if key not in self._stats:
                raise _missing(key)
            return self._stats[key]

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        """Every object under `prefix` after `start_after`, in key order, as of this call; see `ObjectStore.list`."""
        with self._lock:
            found = [stat for key, stat in self._stats.items() if key.startswith(prefix) and key > start_after]
        return iter(sorted(found, key=lambda stat: stat.key))

    def delete(self, *keys: str) -> None:
        """Remove objects; see `ObjectStore.delete`."""
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)
                self._stats.pop(key, None)

    def _content(self, key: str) -> bytes:
        with self._lock:
            if key not in self._objects:
                raise _missing(key)
            return self._objects[key]

    def __getstate__(self) -> dict[str, bytes]:
        with self._lock:
            return dict(self._objects)

    def __setstate__(self, objects: dict[str, bytes]) -> None:
        self._lock = threading.Lock()
        self._objects = objects
        self._stats = {key: _stat(key, content) for key, content in objects.items()}


def _stat(key: str, content: bytes) -> ObjectStat:
    return ObjectStat(key, len(content), datetime.now(UTC), etag=new_id())


def _missing(key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"There is no object {key!r} in the store.")
