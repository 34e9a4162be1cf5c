"""The Ray Serve replica: loads one algorithm once, and executes the attempts that it gets from the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.errors import LoadFailedError, T3dError
from t3d_server.execution.executor import LoadedAlgorithm, load
from t3d_server.execution.output_capture import captured, install
from t3d_server.execution.worker import Worker
from t3d_server.models import AlgorithmVersion, Device, LogLine, Manifest
from t3d_server.packages.fetch import fetch_package
from t3d_server.run_log import MAX_LINES, storable
from t3d_server.runs.interface import QueueName
from t3d_server.serving.coordinator_client import RemoteRuns
from t3d_server.serving.logs import log_with_serve
from t3d_server.serving.resources import COORDINATOR_NAME, NAMESPACE, Connect

logger = logging.getLogger("ray.serve")


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
        self._threads = ThreadPoolExecutor(manifest.runs_per_replica, thread_name_prefix="run")
        self._manifest = manifest
        self._load_log: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._load_lines: deque[LogLine] = deque(maxlen=MAX_LINES)
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
        loop = asyncio.get_running_loop()
        self._worker = Worker(
            RemoteRuns(),
            ray.get_runtime_context().get_actor_name() or "",  # Serve names its replicas
            self._algorithm,
            self._resources.datasets,
            executor=self._threads,
            clock=SYSTEM_CLOCK,
            wait=lambda work, timeout_s: _wait(loop, work, timeout_s),
            load_log=self._load_lines,
        )

    def _load(self, version: AlgorithmVersion, device: Device, gpu_share: float | None) -> LoadedAlgorithm:
        if gpu_share is not None:
            _limit_gpu_memory(gpu_share)
        package = fetch_package(self._resources.store, version, self._resources.cache)
        with captured(self._load_lines.append):
            algorithm = load(package, version.manifest, device, self._log_load)
        # For good: this process serves one algorithm, whose own threads may import at any time.
        self._active = algorithm.module.active()
        self._active.__enter__()
        return algorithm

    def _log_load(self, line: LogLine) -> None:
        self._load_log.append(line)
        self._load_lines.append(line)
        fields = {"algorithm": self._manifest.name, "version": self._manifest.version}
        logger.log(logging.getLevelNamesMapping()[line.level], "%s", line.message, extra=fields)

    async def _load_failed(self, manifest: Manifest, device: Device, error: T3dError) -> T3dError:
        """Report to the coordinator, which ends what waits for this replica; Serve would try again for ever."""
        await self._coordinator.load_failed.remote(QueueName(manifest.name, manifest.version, device), error)
        return error

    async def describe(self) -> tuple[Manifest, list[LogLine]]:
        """The manifest with the algorithm type resolved, and what was logged while loading."""
        return self._algorithm.manifest, list(self._load_log)

    async def work(self, call_id: str) -> None:
        """See `Worker.work`."""
        await self._worker.work(call_id)


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], timeout_s: float) -> None:
    """See `Wait` in `execution.reporter`."""
    with contextlib.suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)


def _limit_gpu_memory(share: float) -> None:
    """Limit this process to its share of the GPU's memory; only torch can do that."""
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)
