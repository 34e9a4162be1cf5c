"""The interface of publishing, in whichever process it runs; that of runs is `runs.interface`."""

from __future__ import annotations

from typing import Protocol

from t3d_server.models import AlgorithmInfo, Device, Publication, PublishRequest


class Publishing(Protocol):
    """Publishes and removes versions, and knows the cluster."""

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish a folder, or wait for its publication that goes on; returns after `wait_s` at the latest."""

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version once it has no live run."""

    async def devices(self) -> list[Device]:
        """Devices that the cluster has."""
