"""Calls between the server's Ray processes, and the errors they carry."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from t3d_server.errors import ServerUnavailableError, T3dError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmInfo, Device, LogLine, Publication, PublishRequest, Run, RunNews, RunRequest
from t3d_server.serving.resources import COORDINATOR_NAME, NAMESPACE


def unwrapped(error: RayTaskError) -> Exception:
    """The error that was raised in the other process, if it is one of ours; else Ray's."""
    return error.cause if isinstance(error.cause, T3dError) else error


class CoordinatorClient:
    """The coordinator, as the router calls it: the same errors as in its own process."""

    def __init__(self) -> None:
        self._actor = ray.get_actor(COORDINATOR_NAME, namespace=NAMESPACE)

    async def submit(self, algorithm: str, request: RunRequest, key: str | None, run_id: str | None = None) -> Run:
        """See `Coordinator.submit`."""
        # The id is made here: a call that Ray repeats, because the coordinator died in it, makes no second run.
        run: Run = await self._call("submit", algorithm, request, run_id or new_id(), key)
        return run

    async def get(self, run_id: str, wait_s: float) -> Run:
        """See `Coordinator.get`."""
        run: Run = await self._wait("get", run_id, wait_s)
        return run

    async def cancel(self, run_id: str) -> Run:
        """See `Coordinator.cancel`."""
        run: Run = await self._call("cancel", run_id)
        return run

    async def news(self, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """See `Coordinator.news`."""
        news: RunNews = await self._wait("news", run_id, seen, after, wait_s)
        return news

    async def log(self, run_id: str) -> list[LogLine]:
        """See `Coordinator.log`."""
        lines: list[LogLine] = await self._call("log", run_id)
        return lines

    async def live_runs(self) -> list[Run]:
        """See `Coordinator.live_runs`."""
        runs: list[Run] = await self._call("live_runs")
        return runs

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """See `Publisher.publish`."""
        publication: Publication = await self._call("publish", request, wait_s)
        return publication

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""
        info: AlgorithmInfo = await self._call("use", name, version)
        return info

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version, after its runs have ended or been cancelled."""
        await self._call("remove", name, version, cancel_runs)

    async def devices(self) -> list[Device]:
        """Devices that the cluster has."""
        devices: list[Device] = await self._call("devices")
        return devices

    async def _wait(self, method: str, *args: Any) -> Any:
        """As `_call`; whoever stops waiting frees the coordinator of it."""
        answer = getattr(self._actor, method).remote(*args)
        try:
            return await self._answered(answer)
        except asyncio.CancelledError:
            ray.cancel(answer, recursive=False)
            raise

    async def _call(self, method: str, *args: Any) -> Any:
        return await self._answered(getattr(self._actor, method).remote(*args))

    async def _answered(self, answer: Any) -> Any:
        try:
            return await answer
        except RayTaskError as error:
            raise unwrapped(error) from None
        except RayActorError as error:
            raise ServerUnavailableError("the coordinator cannot be reached; try again in a moment") from error
