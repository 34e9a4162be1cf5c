"""Assets as authors see them: files that are bytes-like and can be read like an open file."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any


class AssetBytes(mmap.mmap):
    """A file of the algorithm folder, mapped read-only.

    Replicas on a node share its pages. A subclass of `bytes` would not do: `torch.load` takes that for a path.
    Comparison and hash are those of the content, like those of bytes.
    """

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be rewound."""
        return True

    def writable(self) -> bool:
        """It cannot be written."""
        return False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The content as text."""
        return bytes(self).decode(encoding, errors)

    def __bytes__(self) -> bytes:
        return self[:]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (bytes, bytearray, memoryview, mmap.mmap)):
            return memoryview(self) == memoryview(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self))


def open_asset(path: Path) -> Any:
    """Map a local file.

    Returns:
        `AssetBytes` positioned at its start, or `b""` for an empty file, which cannot be mapped.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return AssetBytes(file.fileno(), 0, access=mmap.ACCESS_READ)
