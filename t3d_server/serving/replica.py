"""The Ray Serve replica: loads one algorithm once and works on the attempts it is granted."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from t3d_server.errors import LoadFailedError, StoreUnavailableError, T3dError
from t3d_server.models import AlgorithmVersion, Device, LogLine, Manifest, Run, RunStatus
from t3d_server.packages.fetch import fetch_package
from t3d_server.runs.attempts import AttemptKey, RunDatasets
from t3d_server.runs.capture import captured, install
from t3d_server.runs.executor import LoadedAlgorithm, Outcome, execute, load
from t3d_server.runs.grants import Receipt
from t3d_server.runs.lanes import Lane
from t3d_server.runs.log import MAX_LINES, run_fields, storable
from t3d_server.serving.logs import log_with_serve
from t3d_server.serving.reporter import Reporter
from t3d_server.serving.resources import COORDINATOR_NAME, NAMESPACE, Connect

logger = logging.getLogger("ray.serve")

DELIVERY_RETRY_S = 1.0
_ENDS = {
    RunStatus.COMPLETED: "has a result",
    RunStatus.FAILED: "has failed",
    RunStatus.CANCELLED: "has stopped, as it was told",  # cancelled, or past its deadline: the coordinator knows
}


class AlgorithmReplica:
    """One loaded algorithm on one device.

    Args:
        connect: makes the resources of this process.
        version: what to load.
        device: where it works.
        gpu_share: the share of the GPU that it may use; None on the CPU.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it, so that its event loop goes on
        self, connect: Connect, version: AlgorithmVersion, device: Device, gpu_share: float | None
    ) -> None:
        manifest = version.manifest
        log_with_serve()
        install()
        self._resources = connect()
        self._coordinator = ray.get_actor(COORDINATOR_NAME, namespace=NAMESPACE)
        self._name = ray.get_runtime_context().get_actor_name() or ""  # Serve names its replicas
        self._threads = ThreadPoolExecutor(manifest.runs_per_replica, thread_name_prefix="run")
        self._manifest = manifest
        self._load_log: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._untold: deque[LogLine] = deque(maxlen=MAX_LINES)
        loading = asyncio.get_running_loop().run_in_executor(self._threads, self._load, version, device, gpu_share)
        try:
            self._algorithm = await asyncio.wait_for(asyncio.shield(loading), manifest.load_timeout_s)
        except TimeoutError:
            message = f"{manifest.name} {manifest.version}: load_assets did not return in {manifest.load_timeout_s:g} s"
            raise await self._load_failed(manifest, device, LoadFailedError(message)) from None
        except Exception as error:
            if not isinstance(error, T3dError):  # a full disk, a broken driver
                name = f"{manifest.name} {manifest.version}"
                error = LoadFailedError(storable(f"{name} could not load on {device}: {type(error).__name__}: {error}"))
            raise await self._load_failed(manifest, device, error) from error

    def _load(self, version: AlgorithmVersion, device: Device, gpu_share: float | None) -> LoadedAlgorithm:
        if gpu_share is not None:
            _limit_gpu_memory(gpu_share)
        package = fetch_package(self._resources.store, version, self._resources.cache)
        with captured(self._untold.append):
            algorithm = load(package, version.manifest, device, self._log_load)
        # For good: this process serves one algorithm, whose own threads may import at any time.
        self._active = algorithm.module.active()
        self._active.__enter__()
        return algorithm

    def _log_load(self, line: LogLine) -> None:
        self._load_log.append(line)
        self._untold.append(line)
        fields = {"algorithm": self._manifest.name, "version": self._manifest.version}
        logger.log(logging.getLevelNamesMapping()[line.level], "%s", line.message, extra=fields)

    async def _load_failed(self, manifest: Manifest, device: Device, error: T3dError) -> T3dError:
        """Tells the coordinator, which ends what waits for this replica; Serve would try again for ever."""
        await self._coordinator.load_failed.remote(Lane(manifest.name, manifest.version, device), error)
        return error

    async def describe(self) -> tuple[Manifest, list[LogLine]]:
        """The manifest with the algorithm type resolved, and what was logged while loading."""
        return self._algorithm.manifest, list(self._load_log)

    async def work(self, call_id: str) -> None:
        """Work on runs until the coordinator has no more for this call; returns once the author's code has ended."""
        # In a context of its own: a call that is cancelled with its caller must not take the run with it.
        await _to_its_end(self._work(call_id))

    async def _work(self, call_id: str) -> None:
        run: Run | None = await self._coordinator.begin.remote(call_id, self._name)
        while run is not None:
            logger.info("run %s begins, attempt %d", run.id, run.attempts, extra=run_fields(run))
            attempt = AttemptKey(run.id, run.attempts, self._name)
            datasets = RunDatasets(self._resources.datasets, run.id)
            async with Reporter(self._coordinator, attempt) as reporter:
                while self._untold:
                    line = self._untold.popleft()
                    reporter.log(line.model_copy(update={"message": f"loading: {line.message}"}))
                outcome = await asyncio.get_running_loop().run_in_executor(
                    self._threads, execute, self._algorithm, run, datasets, reporter
                )
            logger.info("run %s: attempt %d %s", run.id, run.attempts, _ENDS[outcome.status], extra=run_fields(run))
            receipt = await self._delivered(call_id, attempt, outcome, reporter.unsent_lines())
            if not receipt.counts:
                logger.warning(
                    "run %s: attempt %d does not count; its outputs are removed",
                    run.id,
                    run.attempts,
                    extra=run_fields(run),
                )
                await asyncio.to_thread(_remove, datasets, outcome.output_dataset_ids)
            run = receipt.following

    async def _delivered(self, call_id: str, attempt: AttemptKey, outcome: Outcome, lines: list[LogLine]) -> Receipt:
        """Deliver an outcome, however long the coordinator and its store are away."""
        while True:
            try:
                receipt: Receipt = await self._coordinator.finish.remote(call_id, attempt, outcome, lines)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, StoreUnavailableError):
                    raise
                await asyncio.sleep(DELIVERY_RETRY_S)
            else:
                return receipt


def _remove(datasets: RunDatasets, dataset_ids: Iterable[str]) -> None:
    for dataset_id in dataset_ids:
        with contextlib.suppress(T3dError):  # the sweep at the end of the run meets it
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


def _limit_gpu_memory(share: float) -> None:
    """Hold this process to its share of the GPU's memory; only torch can."""
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)
