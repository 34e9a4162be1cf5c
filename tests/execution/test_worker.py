"""The work of a replica, on a scheduler of its own: runs one after the other, and what becomes of their outputs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t3d_server.algorithm_utils.BaseRunner import BaseRunner, create_runner
from t3d_server.algorithm_utils.io_schemas import GenericSchema
from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import StoreUnavailableError
from t3d_server.execution import worker
from t3d_server.execution.context import LoadContext
from t3d_server.execution.executor import LoadedAlgorithm
from t3d_server.execution.worker import Worker
from t3d_server.models import LogLine, RunStatus
from t3d_server.packages.loader import LoadedModule, Package
from t3d_server.runs.interface import Receipt
from t3d_server.storage.keys import DATASETS
from tests.run_store.stores import FaultyStore
from tests.runs.bench import NEVER_S, TIMINGS, Bench, Versions, in_loop, line_of, until


class Runner(BaseRunner):
    def preprocess(self, input_data: Any, args: Any) -> Any:
        return input_data

    def inference(self, data: Any, args: Any) -> Any:
        self.log_message("at work")
        return np.ones(3)

    def postprocess(self, inference_output: Any, args: Any) -> list[str]:
        return self.post_data([{"data": inference_output}], GenericSchema)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "DELIVERY_RETRY_S", 0.01)


class Plant:
    """A replica and its scheduler on one store."""

    def __init__(self, tmp_path: Path, pool: ThreadPoolExecutor, loaded: deque[LogLine]) -> None:
        self.store = FaultyStore()
        self.bench = Bench(self.store)
        self.datasets = DatasetStore(self.store, scratch=tmp_path, max_dataset_bytes=2**20)
        package = Package(tmp_path, lambda path: tmp_path / path)
        runner = create_runner(Runner, LoadContext(package, lambda line: None), "cpu")
        loop = asyncio.get_running_loop()

        def wait(work: Coroutine[Any, Any, None], timeout_s: float) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)

        self.worker = Worker(
            self.bench.runs,
            "r1",
            LoadedAlgorithm(Versions.manifest, package, LoadedModule(Runner, [], nullcontext), runner),
            self.datasets,
            executor=pool,
            clock=SYSTEM_CLOCK,
            wait=wait,
            load_log=loaded,
        )

    async def work(self) -> None:
        """Have the replica take the next call."""
        _, call_id, ended = await self.bench.replicas.calls.get()
        await self.worker.work(call_id)
        ended.set_result(None)

    def stored(self) -> list[str]:
        return [stat.key for stat in self.store.list(DATASETS)]


@asynccontextmanager
async def plant(tmp_path: Path, *loaded: LogLine) -> AsyncGenerator[Plant]:
    with ThreadPoolExecutor(1) as pool:
        yield Plant(tmp_path, pool, deque(loaded))


@in_loop
async def test_a_replica_works_on_what_waits_and_its_outputs_and_logs_are_those_of_the_runs(tmp_path: Path) -> None:
    async with plant(tmp_path, line_of("weights")) as each:
        runs = [await each.bench.submit() for _ in range(2)]
        await each.work()
        done = [await each.bench.get(run.id) for run in runs]
        assert [run.status for run in done] == [RunStatus.COMPLETED] * 2
        assert len(each.stored()) == 2
        for run in done:
            assert each.datasets.read(run.output_dataset_ids[0])["data"].tolist() == [1, 1, 1]
        assert await each.bench.messages(runs[0].id) == ["loading: weights", "at work"]
        assert await each.bench.messages(runs[1].id) == ["at work"]


@in_loop
async def test_an_outcome_is_delivered_however_long_the_coordinator_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path) as each:
        run, failures = await each.bench.submit(), 3
        finish = each.bench.runs.finish

        async def fails(**arguments: Any) -> Receipt:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StoreUnavailableError("the store is down")
            return await finish(**arguments)

        monkeypatch.setattr(each.bench.runs, "finish", fails)
        await each.work()
        assert (await each.bench.get(run.id)).status is RunStatus.COMPLETED
        assert await each.bench.messages(run.id) == ["at work"]


@in_loop
async def test_the_work_outlives_the_call_that_asked_for_it(tmp_path: Path) -> None:
    async with plant(tmp_path) as each:
        run = await each.bench.submit()
        _, call_id, _ = await each.bench.replicas.calls.get()
        working = asyncio.create_task(each.worker.work(call_id))
        await asyncio.sleep(0)
        working.cancel()
        assert (await each.bench.get(run.id, wait_s=NEVER_S)).status is RunStatus.COMPLETED
        await asyncio.wait([working])


@pytest.mark.parametrize("removed", [True, False])
@in_loop
async def test_outputs_of_an_attempt_that_does_not_count_are_removed_or_known_to_be_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    async with plant(tmp_path) as each:
        run = await each.bench.submit()
        finish = each.bench.runs.finish

        async def other_first(*, call_id: str, attempt: Any, outcome: Any, lines: Any) -> Receipt:
            done = outcome.__class__(RunStatus.COMPLETED, ("01890000-0000-7000-8000-000000000001",))
            await finish(call_id=call_id, attempt=attempt, outcome=done, lines=lines)
            return await finish(call_id=call_id, attempt=attempt, outcome=outcome, lines=lines)

        def fails(dataset_id: str) -> None:
            raise StoreUnavailableError("the store is down")

        monkeypatch.setattr(each.bench.runs, "finish", other_first)
        if not removed:
            monkeypatch.setattr(each.datasets, "delete", fails)
        await each.work()
        assert len(each.stored()) == (0 if removed else 1)
        if not removed:
            await until(lambda: each.bench.runs._log.state.sweeps)
            each.bench.clock.ahead_s += TIMINGS.expiry_s
            await each.bench.sweep()
            assert [len(tags) for tags in each.bench.datasets.tags] == [1]
        assert (await each.bench.get(run.id)).status is RunStatus.COMPLETED
