"""Tells which idempotency keys the runs in pages may have, by the first bytes of their hashes."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np

from t3d_server.run_store.events import PageInfo

NO_KEY = bytes(8)


def fingerprint(key: str) -> bytes:
    """What the directory keeps of the hash of an idempotency key."""
    return bytes.fromhex(key[:16]) if key else NO_KEY


class KeyIndex:
    """Tells whether an idempotency key may be that of a run in a page, without a look into the store."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._sorted = np.empty(0, np.uint64)

    def update(self, pages: Mapping[str, PageInfo]) -> None:
        """Take in the directory as it is now."""
        names = frozenset(name for name, page in pages.items() if page.keys)
        if self._names <= names:
            new = [pages[name] for name in names - self._names]
            added = np.sort(np.concatenate([np.empty(0, np.uint64), *map(_keys, new)]))
            self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, added), added)
        else:
            self._sorted = np.sort(np.concatenate([np.empty(0, np.uint64), *(_keys(pages[name]) for name in names)]))
        self._names = names

    def may_have(self, key: str) -> bool:
        """Whether the hash of a key is like that of a run in a page."""
        wanted = np.frombuffer(fingerprint(key), np.uint64)[0]
        at = int(np.searchsorted(self._sorted, wanted))
        return at < len(self._sorted) and self._sorted[at] == wanted


def _keys(page: PageInfo) -> np.ndarray:
    return np.frombuffer(base64.b64decode(page.keys), np.uint64)
