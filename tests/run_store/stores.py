"""Stores that fail as the test wants it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Any

from t3d_server.errors import StoreUnavailableError
from t3d_server.storage.base import ObjectStat
from t3d_server.storage.keys import RUN_EVENTS
from t3d_server.storage.memory import MemoryObjectStore


class FaultyStore(MemoryObjectStore):
    """A store that fails.

    Attributes:
        down: it does not answer.
        applied: how many of the next puts of segments are applied, while their answers are lost.
        before_put: is called, in a thread, with the key of each put before it is applied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.applied = 0
        self.before_put: Callable[[str], None] = lambda key: None

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
        self._require_up()
        self.before_put(key)
        super().put(key, data, if_absent=if_absent)
        if self.applied and key.startswith(RUN_EVENTS):
            self.applied -= 1
            raise StoreUnavailableError("the answer was lost")

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        self._require_up()
        return super().get(key, offset=offset, length=length)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        self._require_up()
        return super().list(prefix, start_after=start_after)

    def delete(self, *keys: str) -> None:
        self._require_up()
        super().delete(*keys)

    def _require_up(self) -> None:
        if self.down:
            raise StoreUnavailableError("the store is down")


class GatedStore(MemoryObjectStore):
    """A store in which puts of segments wait while the gate is closed for them.

    Attributes:
        waiting: how many puts wait now.
    """

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()
        self._part: bytes | None = None
        self.waiting = 0

    def close(self, part: str = "") -> None:
        """Have puts of segments wait in which this text is, such as the id of a process."""
        self._gate.clear()
        self._part = part.encode()

    def open(self) -> None:
        """Let all go on."""
        self._part = None
        self._gate.set()

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
        if key.startswith(RUN_EVENTS) and self._part is not None and self._part in data:
            self.waiting += 1
            self._gate.wait(20)
            self.waiting -= 1
        super().put(key, data, if_absent=if_absent)


class CountingStore(MemoryObjectStore):
    """A store that counts its requests by method and folder."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[tuple[str, str]] = Counter()

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> None:
        self._count("put", key)
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        self._count("get", key)
        return super().get(key, offset=offset, length=length)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        self._count("list", prefix)
        return super().list(prefix, start_after=start_after)

    def delete(self, *keys: str) -> None:
        self._count("delete", *keys[:1])
        super().delete(*keys)

    def _count(self, method: str, *keys: str) -> None:
        for key in keys:
            self.requests[method, key.rpartition("/")[0] + "/"] += 1
