"""Works on runs: asks the coordinator for one after the other, executes them, and delivers their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from t3d_server.clock import Clock
from t3d_server.errors import ServerUnavailableError, StoreUnavailableError, T3dError
from t3d_server.execution.executor import LoadedAlgorithm, execute
from t3d_server.execution.reporter import Reporter, Wait
from t3d_server.execution.run_datasets import RunDatasets, TaggingStore
from t3d_server.models import LogLine, Run, RunStatus
from t3d_server.run_log import run_fields
from t3d_server.runs.interface import AttemptKey, Outcome, Receipt, Runs

logger = logging.getLogger("ray.serve")

DELIVERY_RETRY_S = 1.0
_ENDS = {
    RunStatus.COMPLETED: "has a result",
    RunStatus.FAILED: "has failed",
    RunStatus.CANCELLED: "has stopped, as it was told",  # cancelled, or past its deadline: the coordinator knows
}


class Worker:
    """The work of one replica.

    Args:
        runs: the coordinator.
        replica: name of the replica.
        algorithm: the loaded algorithm.
        datasets: the datasets.
        executor: threads for author code.
        clock: the clock.
        wait: see `reporter.Wait`.
        load_log: what was logged while loading; it begins the log of the first run.
    """

    def __init__(
        self,
        runs: Runs,
        replica: str,
        algorithm: LoadedAlgorithm,
        datasets: TaggingStore,
        *,
        executor: Executor,
        clock: Clock,
        wait: Wait,
        load_log: deque[LogLine],
    ) -> None:
        self._runs = runs
        self._replica = replica
        self._algorithm = algorithm
        self._datasets = datasets
        self._executor = executor
        self._clock = clock
        self._wait = wait
        self._load_log = load_log

    async def work(self, call_id: str) -> None:
        """Work on runs until the coordinator has no more for this call; returns once the author's code has ended."""
        # In a context of its own: a call that is cancelled with its caller must not take the run with it.
        await _to_its_end(self._work(call_id))

    async def _work(self, call_id: str) -> None:
        run = await self._runs.begin(call_id=call_id, replica=self._replica)
        while run is not None:
            run = await self._attempt(call_id, run)

    async def _attempt(self, call_id: str, run: Run) -> Run | None:
        """Work on a run; the next one."""
        fields = run_fields(run)
        logger.info("run %s begins, attempt %d", run.id, run.attempts, extra=fields)
        attempt = AttemptKey(run.id, run.attempts, self._replica)
        leftovers = Leftovers(self._runs, run.id)
        datasets = RunDatasets(self._datasets, run.id, leftovers.add)
        loop = asyncio.get_running_loop()
        async with Reporter(self._runs, attempt, self._clock, self._wait) as reporter:
            while self._load_log:
                line = self._load_log.popleft()
                reporter.log(line.model_copy(update={"message": f"loading: {line.message}"}))
            outcome = await loop.run_in_executor(
                self._executor, execute, self._algorithm, run, datasets, reporter, self._clock
            )
        outcome = replace(outcome, leftovers=leftovers.found)
        logger.info("run %s: attempt %d %s", run.id, run.attempts, _ENDS[outcome.status], extra=fields)
        receipt = await self._delivered(call_id, attempt, outcome, reporter)
        leftovers.report_from_now_on(loop, delivered=outcome.leftovers)
        if not receipt.counts:
            message = "run %s: attempt %d does not count; its outputs are removed"
            logger.warning(message, run.id, run.attempts, extra=fields)
            await loop.run_in_executor(None, _remove, datasets, outcome.output_dataset_ids)
        return receipt.following

    async def _delivered(self, call_id: str, attempt: AttemptKey, outcome: Outcome, reporter: Reporter) -> Receipt:
        """Deliver an outcome, however long the coordinator and its store are away."""
        while True:
            lines = reporter.unsent()
            try:
                receipt = await self._runs.finish(call_id=call_id, attempt=attempt, outcome=outcome, lines=lines)
            except (StoreUnavailableError, ServerUnavailableError):
                await asyncio.sleep(DELIVERY_RETRY_S)
                continue
            if receipt.resend_from is None:
                return receipt
            reporter.resend_from(receipt.resend_from)


class Leftovers:
    """Whether datasets of a run may be stored that are none of its outputs, and who is to know.

    The outcome says so; after that, also for a thread that outlives the run, a call does.

    Args:
        runs: the coordinator.
        run_id: the run.

    Attributes:
        found: whether there may be some.
    """

    def __init__(self, runs: Runs, run_id: str) -> None:
        self.found = False
        self._runs = runs
        self._run_id = run_id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reporting: asyncio.Task[None] | None = None

    def add(self) -> None:
        """There may be some; called in any thread."""
        self.found = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._start)

    def report_from_now_on(self, loop: asyncio.AbstractEventLoop, *, delivered: bool) -> None:
        """The outcome is delivered, and has said whether there are some."""
        self._loop = loop
        if self.found and not delivered:
            self._start()

    def _start(self) -> None:
        self._reporting = asyncio.ensure_future(self._report())

    async def _report(self) -> None:
        while True:
            try:
                return await self._runs.report_leftovers(run_id=self._run_id)
            except (StoreUnavailableError, ServerUnavailableError):
                await asyncio.sleep(DELIVERY_RETRY_S)


def _remove(datasets: RunDatasets, dataset_ids: Iterable[str]) -> None:
    for dataset_id in dataset_ids:
        with contextlib.suppress(T3dError):  # it is reported
            datasets.delete(dataset_id)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that goes on when the caller is cancelled."""
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    task.result()
