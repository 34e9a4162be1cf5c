"""The published versions as the coordinator knows them, without input or output."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from t3d_server.errors import ObjectNotFoundError
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.registry import Registry
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import ALGORITHMS
from t3d_server.storage.memory import MemoryObjectStore


class Catalog:
    """The published versions, mirrored in memory: the coordinator alone changes them.

    Args:
        registry: the durable versions.
        store: where they are kept.
    """

    def __init__(self, registry: Registry, store: ObjectStore) -> None:
        self.registry = registry
        self._store = store
        self._mirror = Registry(MemoryObjectStore())
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the versions again."""
        async with self._reading:  # else an older result could replace a newer one
            self._mirror = await asyncio.to_thread(self._read)

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        """See `Registry.find`; without input or output."""
        return self._mirror.find(name, version)

    def versions(self) -> list[AlgorithmVersion]:
        """All versions."""
        return self._mirror.versions()

    def _read(self) -> Registry:
        memory = MemoryObjectStore()
        for stat in self._store.list(ALGORITHMS):
            # There may be many tombstones; only their keys matter here.
            with suppress(ObjectNotFoundError):  # another cluster removes it in this moment
                memory.put(stat.key, read(self._store, stat.key) if stat.key.endswith(".json") else b"")
        return Registry(memory)
