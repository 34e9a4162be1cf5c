"""The objects of the store, as they are, and who learns of each change."""

from __future__ import annotations

import bisect
from datetime import datetime
from typing import Protocol

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError
from t3d_server.storage.base import ObjectStat


class Watcher(Protocol):
    """Is called for each change, in the moment when it is done."""

    def on_put(self, key: str, content: bytes, before: bytes | None, by: str) -> None:
        """A process has stored an object."""

    def on_delete(self, key: str, content: bytes, by: str) -> None:
        """A process has removed an object."""


class Bucket:
    """A bucket.

    Attributes:
        objects: content by key.
        watchers: are called for each change.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.watchers: list[Watcher] = []
        self._stats: dict[str, ObjectStat] = {}
        self._keys: list[str] = []
        self._version = 0

    def put(self, key: str, content: bytes, now: datetime, *, if_absent: bool, by: str) -> None:
        """See `ObjectStore.put`."""
        if if_absent and key in self.objects:
            raise ObjectExistsError(f"The key {key!r} holds an object already.")
        before = self.objects.get(key)
        if before is None:
            bisect.insort(self._keys, key)
        self._version += 1
        self.objects[key] = content
        self._stats[key] = ObjectStat(key, len(content), now, str(self._version))
        for watcher in self.watchers:
            watcher.on_put(key, content, before, by)

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        if key not in self.objects:
            raise ObjectNotFoundError(f"There is no object {key!r} in the store.")
        return self.objects[key]

    def stat(self, key: str) -> ObjectStat:
        """See `ObjectStore.stat`."""
        self.get(key)
        return self._stats[key]

    def list(self, prefix: str, start_after: str = "") -> list[ObjectStat]:
        """See `ObjectStore.list`."""
        first = bisect.bisect_right(self._keys, start_after) if start_after >= prefix else 0
        first = max(first, bisect.bisect_left(self._keys, prefix))
        found = []
        for key in self._keys[first:]:
            if not key.startswith(prefix):
                break
            found.append(self._stats[key])
        return found

    def delete(self, key: str, by: str) -> None:
        """See `ObjectStore.delete`."""
        if (before := self.objects.pop(key, None)) is not None:
            del self._stats[key]
            self._keys.remove(key)
            for watcher in self.watchers:
                watcher.on_delete(key, before, by)
