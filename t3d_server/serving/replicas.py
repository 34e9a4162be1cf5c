"""Calls the replicas of algorithms through Serve's handles, and ends single ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError
from ray.serve.exceptions import RayServeException

from t3d_server.models import AlgorithmVersion, Device
from t3d_server.runs.interface import QueueName
from t3d_server.runs.replica_calls import ReplicaGoneError
from t3d_server.runs.tasks import Tasks
from t3d_server.serving.applications import Applications
from t3d_server.serving.deaths import cause, was_wanted
from t3d_server.serving.ray_internals import find_replica
from t3d_server.serving.resources import application_name

logger = logging.getLogger("ray.serve")

DELETED = "waits for its application: it was deleted from Ray Serve, and is deployed again"


class Versions(Protocol):
    """Finds published versions, without input or output."""

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        """The version, or the current one."""


class ServeReplicas:
    """See `runs.replica_calls.Replicas`.

    Args:
        versions: the published versions.
        applications: where they are served.
        devices: returns the devices that the cluster has.
    """

    def __init__(self, versions: Versions, applications: Applications, devices: Callable[[], list[Device]]) -> None:
        self._versions = versions
        self._applications = applications
        self._devices = devices
        self._tasks = Tasks()
        self._deploying: set[QueueName] = set()

    async def work(self, queue: QueueName, call_id: str) -> None:
        """See `Replicas.work`."""
        try:
            await self._work(queue, call_id)
        except (RayActorError, OutOfMemoryError) as error:
            text, unavailable = str(error), isinstance(error, ActorUnavailableError)
            logger.warning("a replica of %s %s on %s: %s", *queue, text)
            message = f"its replica {'cannot be reached' if unavailable else 'has ended'}: {cause(text)}"
            raise ReplicaGoneError(message, charged=not was_wanted(text), certain=not unavailable) from error
        except RayServeException as error:  # it rejects calls while it removes an application, or shuts down
            raise ReplicaGoneError(f"Ray Serve has no replica: {cause(str(error))}") from error

    async def obstacle(self, queue: QueueName) -> str | None:
        """See `Replicas.obstacle`.

        It is asked while a call waits for a replica, and so it is here that an application is found to be deleted. Such
        an application is deployed again: the call goes on, since its handle finds the new replicas.
        """
        application = application_name(queue.algorithm, queue.version)
        if await self._applications.is_deleted(application):
            if queue not in self._deploying:
                self._deploying.add(queue)
                self._tasks.start(self._deploy_again(queue))
            return None
        return await self._applications.obstacle(application, queue.device)

    async def shortage(self, queue: QueueName) -> str | None:
        """See `Replicas.shortage`."""
        if queue in self._deploying:
            return DELETED
        return await self._applications.shortage(self._versions.find(queue.algorithm, queue.version), queue.device)

    async def is_gone(self, replica: str) -> bool:
        """See `Replicas.is_gone`; the name of an actor ends with it."""
        return await asyncio.to_thread(find_replica, replica) is None

    async def kill(self, replica: str) -> None:
        """See `Replicas.kill`."""
        actor = await asyncio.to_thread(find_replica, replica)
        if actor is not None:
            await asyncio.to_thread(ray.kill, actor, no_restart=True)

    async def _deploy_again(self, queue: QueueName) -> None:
        logger.warning("the application of %s %s was deleted from Ray Serve: it is deployed again", *queue[:2])
        try:
            await self._applications.deploy_again(self._versions.find(queue.algorithm, queue.version))
        except Exception:  # it is found to be deleted again at the next look
            logger.exception("%s %s cannot be deployed again", *queue[:2])
        finally:
            self._deploying.discard(queue)

    async def _work(self, queue: QueueName, call_id: str) -> None:
        await self._applications.deploy(self._versions.find(queue.algorithm, queue.version), self._devices())
        handle = self._applications.handle(application_name(queue.algorithm, queue.version), queue.device)
        response = handle.work.remote(call_id)
        try:
            await response
        except asyncio.CancelledError:
            response.cancel()
            raise
