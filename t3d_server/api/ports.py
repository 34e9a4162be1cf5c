"""What the operations ask of the coordinator, wherever that runs."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from t3d_server.models import (
    AlgorithmInfo,
    Device,
    LogLine,
    Publication,
    PublishRequest,
    Run,
    RunNews,
    RunRequest,
)


class CoordinatorPort(Protocol):
    """What the service asks of the coordinator, wherever that runs."""

    async def submit(self, algorithm: str, request: RunRequest, key: str | None, run_id: str | None = None) -> Run:
        """Accept a run, under this id; the same one again where the same key comes with the same request."""

    async def get(self, run_id: str, wait_s: float) -> Run:
        """A run that is live or has ended lately, after waiting for its end; else RunNotFoundError."""

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run that is live or has ended lately; else RunNotFoundError."""

    async def log(self, run_id: str) -> list[LogLine]:
        """The log of a run that is live or has ended lately; else RunNotFoundError."""

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """What is new of a run that is live or has ended lately; else RunNotFoundError."""

    async def live_runs(self) -> list[Run]:
        """Runs that have not ended."""

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish a folder, or go on publishing it; returns after `wait_s` at the latest."""

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version once it has no live run."""

    async def devices(self) -> list[Device]:
        """Devices that the cluster has."""
