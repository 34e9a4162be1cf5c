"""Stored objects as files."""

from __future__ import annotations

import io
from typing import Any

from t3d_server.storage.base import ObjectStore


class StoredFile(io.RawIOBase):
    """A stored object as a file, each read of which is a request for a range: best below a buffer.

    Args:
        store: where it is.
        key: its key.
        size: its size in bytes.
    """

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        self._store = store
        self._object = key
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from any place."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read from another place next."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Where it is read next."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there is something."""
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        block = b"".join(self._store.get(self._object, offset=self._at, length=length))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)
