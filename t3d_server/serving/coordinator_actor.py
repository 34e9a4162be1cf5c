"""The coordinator as a detached, named Ray actor: runs, publishing and applications in one process."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray

from t3d_server.errors import AlgorithmNotFoundError, StoreUnavailableError, T3dError, VersionNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import (
    AlgorithmInfo,
    Device,
    Publication,
    PublishRequest,
    RunFailure,
)
from t3d_server.packages.registry import Registry
from t3d_server.run_log import storable
from t3d_server.run_store.timings import Timings
from t3d_server.runs.interface import QueueName
from t3d_server.runs.scheduler import RunScheduler
from t3d_server.serving.applications import Applications
from t3d_server.serving.building import Builder
from t3d_server.serving.catalog import Catalog
from t3d_server.serving.logs import log_to_stderr, log_with_serve
from t3d_server.serving.metrics import RunMetrics
from t3d_server.serving.placement import cluster_devices, most_replicas
from t3d_server.serving.publishing import Publisher
from t3d_server.serving.ray_internals import ON_HEAD, allow_unregistering_twice, serve_instance
from t3d_server.serving.replicas import ServeReplicas
from t3d_server.serving.resources import COORDINATOR_NAME, NAMESPACE, Connect, application_name

logger = logging.getLogger("ray.serve")

REFRESH_S = 5.0
START_RETRY_S = 2.0
STORE_THREADS = 16
"""Segments of the log are read in parallel at the start, with some milliseconds of waiting each."""


class CoordinatorActor:
    """Owns the live state of runs and of what is deployed. Its state is rebuilt from the store when it restarts.

    Args:
        connect: makes the resources of this process.
        cluster_id: distinguishes this cluster from others that use the same store.
    """

    async def __init__(self, connect: Connect, cluster_id: str) -> None:  # type: ignore[misc]  # Ray awaits it
        log_to_stderr()
        log_with_serve()
        allow_unregistering_twice()
        resources = connect()
        defaults = resources.placement
        self._devices: list[Device] = ["cpu"]
        self._catalog = Catalog(Registry(resources.store), resources.store)
        self._applications = Applications(connect, defaults)
        self._publisher = Publisher(
            resources.store,
            Builder(connect),
            self._catalog.registry,
            self._applications,
            lambda: self._devices,
            self._catalog.refresh,
        )
        self._metrics = RunMetrics()
        self._runs = RunScheduler(
            resources.history,
            resources.datasets,
            cluster=cluster_id,
            catalog=self._catalog,
            replicas=ServeReplicas(self._catalog, self._applications, lambda: self._devices),
            devices=lambda: self._devices,
            slots=lambda manifest, device: most_replicas(manifest, defaults) * manifest.runs_per_replica,
            limits=resources.run_limits,
            ended=self._metrics.ended,
            executor=ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="runs"),
            timings=Timings(keys_s=resources.keep_keys_s),
        )
        self._store = resources.store
        self._serve: str | None = None
        self._start: asyncio.Task[None] | None = None
        self._refresh: asyncio.Task[None] | None = None
        # After a restart there may be no call, and the open runs have to go on anyway.
        self._keep_starting = asyncio.create_task(self._until_ready())

    async def _until_ready(self) -> None:
        while True:
            try:
                return await self.ready()
            except Exception:  # of the store, of Ray or of Serve, which may answer soon
                logger.exception("the coordinator cannot start yet")
            await asyncio.sleep(START_RETRY_S)

    async def ready(self) -> None:
        """Returns once the published algorithms are served and open runs are taken up again."""
        if self._start is None or (self._start.done() and self._start.exception() is not None):
            self._start = asyncio.create_task(self._started())
        await asyncio.shield(self._start)

    async def _started(self) -> None:
        # Where there is none, deploying an algorithm would start a Serve with options of its own.
        while (instance := await asyncio.to_thread(serve_instance)) is None:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(START_RETRY_S)
        self._serve = instance
        self._devices = await asyncio.to_thread(cluster_devices)
        self._refresh = self._refresh or asyncio.create_task(self._refresh_all())
        await asyncio.to_thread(self._store.prepare)
        await self._catalog.refresh()
        versions = self._catalog.versions()
        names = {application_name(version.manifest.name, version.manifest.version) for version in versions}
        await self._applications.remove_others(names)
        for version in versions:
            try:
                await self._applications.deploy(version, self._devices)
            except Exception:  # one version must not keep the others from being served
                manifest = version.manifest
                fields = {"algorithm": manifest.name, "version": manifest.version}
                logger.exception("%s %s cannot be served", manifest.name, manifest.version, extra=fields)
        await self._runs.start()

    async def follow_serve(self) -> None:
        """Restart this process if Ray Serve was shut down: its handles and applications belong to the former Serve."""
        if self._serve is not None and self._serve != await asyncio.to_thread(serve_instance):
            os._exit(1)  # Ray starts it again, and repeats the calls

    async def _refresh_all(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                self._metrics.count(self._runs.counts())
                await self.follow_serve()
                self._devices = await asyncio.to_thread(cluster_devices)
            except Exception:  # the next attempt may succeed
                logger.exception("the cluster's devices could not be asked")

    async def release(self) -> None:
        """See `RunScheduler.release`."""
        await self.ready()
        await self._runs.release()

    async def runs(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call a method of `interface.Runs`."""
        await self.ready()
        return await getattr(self._runs, method)(**arguments)

    async def load_failed(self, queue: QueueName, error: T3dError) -> None:
        """A replica reports that it could not load: what waits for it fails, be it a publication or runs."""
        self._publisher.load_failed(application_name(queue.algorithm, queue.version), queue.device, error)
        await self.ready()
        if isinstance(error, StoreUnavailableError):
            return  # Serve tries again, and so it should
        failure = RunFailure(
            code=error.code,
            type=type(error).__name__,
            message=storable(error.message),
            traceback=storable(error.traceback or ""),
        )
        await self._runs.load_failed(queue=queue, failure=failure)

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """See `Publisher.publish`."""
        await self.ready()
        return await self._publisher.publish(request, wait_s)

    async def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the current one.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError: there is no such version.
        """
        await self.ready()
        await asyncio.to_thread(self._catalog.registry.set_current, name, version)
        await self._catalog.refresh()
        return await asyncio.to_thread(self._catalog.registry.info, name)

    async def remove(self, name: str, version: str, cancel_runs: bool) -> None:
        """Remove a version, after its runs have ended or been cancelled.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError: there is no such version.
        """
        await self.ready()
        record = self._catalog.find(name, version)
        registry = self._catalog.registry
        try:
            await self._runs.drain(name, version, cancel=cancel_runs)
            async with self._publisher.lock:
                with suppress(AlgorithmNotFoundError, VersionNotFoundError):  # an earlier try came as far
                    await asyncio.to_thread(registry.remove, name, version)
                await asyncio.to_thread(registry.discard, record)
                await self._applications.remove(application_name(name, version))
                await self._catalog.refresh()  # at last: until then, the same can be asked for again
        finally:
            self._runs.reopen(name, version)

    async def devices(self) -> list[Device]:
        """Devices that the cluster has."""
        await self.ready()
        return self._devices


def start_coordinator(connect: Connect) -> Any:
    """Start the coordinator of this cluster, or find the one that runs."""
    actor = ray.remote(CoordinatorActor).options(
        name=COORDINATOR_NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources=ON_HEAD,
        # The router starts it, whose environment is for the router alone.
        runtime_env={"env_vars": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}},
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=10_000,
    )
    return actor.remote(connect, new_id())
