"""The coordinator as routers and replicas call it, over the simulated actor."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tests.simulation.actors import Actor


class SimRuns:
    """See `runs.interface.Runs`.

    Args:
        actor: the coordinator's actor.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

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
        return await self._actor.call("runs", method=method, arguments=arguments)


class SimPublishing:
    """See `api.ports.Publishing`; nothing is published while a simulation goes on.

    Args:
        actor: the coordinator's actor.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Not simulated."""
        raise NotImplementedError

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Not simulated."""
        raise NotImplementedError

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """See `Publishing.remove`."""
        await self._actor.call("remove", name=name, version=version, cancel_runs=cancel_runs)

    async def devices(self) -> list[Device]:
        """See `Publishing.devices`."""
        return ["cpu"]
