"""The coordinator as routers and replicas call it: an actor of Ray's, with the errors that it raises."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from t3d_server.errors import ServerUnavailableError, T3dError
from t3d_server.models import (
    AlgorithmInfo,
    Device,
    LogLine,
    Publication,
    PublishRequest,
    Run,
    RunFailure,
    RunNews,
    RunRequest,
    RunStatus,
)
from t3d_server.runs.interface import AttemptKey, Lines, Outcome, QueueName, Receipt, ReportAnswer, RunList
from t3d_server.serving.resources import COORDINATOR_NAME, NAMESPACE


def unwrapped(error: RayTaskError) -> Exception:
    """The error that was raised in the other process, if it is one of ours; else Ray's."""
    return error.cause if isinstance(error.cause, T3dError) else error


async def answered(answer: Any) -> Any:
    """The answer of an actor.

    Raises:
        ServerUnavailableError: the actor cannot be reached.
        Exception: what it raised.
    """
    try:
        return await answer
    except RayTaskError as error:
        raise unwrapped(error) from None
    except TaskCancelledError:
        raise
    except RayError as error:  # the actor has died, or its answer is lost
        raise ServerUnavailableError("the coordinator cannot be reached; try again in a moment") from error


class RemoteRuns:
    """`interface.Runs`, in the process of the coordinator."""

    def __init__(self) -> None:
        self._actor = ray.get_actor(COORDINATOR_NAME, namespace=NAMESPACE)

    async def submit(self, *, algorithm: str, request: RunRequest, run_id: str, key: str | None) -> Run:
        """See `Runs.submit`."""
        run: Run = await self._call("submit", algorithm=algorithm, request=request, run_id=run_id, key=key)
        return run

    async def get(self, *, run_id: str, wait_s: float = 0.0) -> Run:
        """See `Runs.get`."""
        run: Run = await self._call("get", run_id=run_id, wait_s=wait_s)
        return run

    async def news(self, *, run_id: str, seen: Run | None, after: datetime | None, wait_s: float) -> RunNews:
        """See `Runs.news`."""
        news: RunNews = await self._call("news", run_id=run_id, seen=seen, after=after, wait_s=wait_s)
        return news

    async def log(self, *, run_id: str) -> list[LogLine]:
        """See `Runs.log`."""
        lines: list[LogLine] = await self._call("log", run_id=run_id)
        return lines

    async def list(
        self, *, limit: int, before: str | None = None, algorithm: str | None = None, status: RunStatus | None = None
    ) -> RunList:
        """See `Runs.list`."""
        found: RunList = await self._call("list", limit=limit, before=before, algorithm=algorithm, status=status)
        return found

    async def cancel(self, *, run_id: str) -> Run:
        """See `Runs.cancel`."""
        run: Run = await self._call("cancel", run_id=run_id)
        return run

    async def begin(self, *, call_id: str, replica: str) -> Run | None:
        """See `Runs.begin`."""
        run: Run | None = await self._call("begin", call_id=call_id, replica=replica)
        return run

    async def report(self, *, attempt: AttemptKey, progress: float | None, lines: Lines) -> ReportAnswer:
        """See `Runs.report`."""
        answer: ReportAnswer = await self._call("report", attempt=attempt, progress=progress, lines=lines)
        return answer

    async def finish(self, *, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: Lines) -> Receipt:
        """See `Runs.finish`."""
        receipt: Receipt = await self._call("finish", call_id=call_id, attempt=attempt, outcome=outcome, lines=lines)
        return receipt

    async def report_leftovers(self, *, run_id: str) -> None:
        """See `Runs.report_leftovers`."""
        await self._call("report_leftovers", run_id=run_id)

    async def load_failed(self, *, queue: QueueName, failure: RunFailure) -> None:
        """See `Runs.load_failed`."""
        await self._call("load_failed", queue=queue, failure=failure)

    async def _call(self, method: str, **arguments: Any) -> Any:
        # By its name Ray's dashboard and metrics tell the call from others.
        answer: Any = self._actor.runs.options(name=f"CoordinatorActor.{method}").remote(method, arguments)
        try:
            return await answered(answer)
        except asyncio.CancelledError:
            if method in ("get", "news"):  # who stops waiting frees the coordinator of it
                ray.cancel(answer, recursive=False)
            raise


class RemotePublishing:
    """`api.ports.Publishing`, in the process of the coordinator."""

    def __init__(self) -> None:
        self._actor = ray.get_actor(COORDINATOR_NAME, namespace=NAMESPACE)

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """See `Publisher.publish`."""
        publication: Publication = await answered(self._actor.publish.remote(request, wait_s))
        return publication

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one."""
        info: AlgorithmInfo = await answered(self._actor.use.remote(name, version))
        return info

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version, after its runs have ended or been cancelled."""
        await answered(self._actor.remove.remote(name, version, cancel_runs))

    async def devices(self) -> list[Device]:
        """Devices that the cluster has."""
        devices: list[Device] = await answered(self._actor.devices.remote())
        return devices
