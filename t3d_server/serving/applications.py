"""One Ray Serve application for each algorithm version: deploy, prove, remove.

The application's root deployment only binds the device deployments; it is never called and never started, because a
root *replica* would open an HTTP port of its own. Its name carries a hash of everything the application was made from:
deploying the same again is left out, since every `serve.run` restarts replicas.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve.schema import ApplicationStatus

import t3d_server
from t3d_server.errors import LoadFailedError
from t3d_server.models import AlgorithmVersion, Device, LogLine, Manifest
from t3d_server.serving.deaths import cause, was_by_node
from t3d_server.serving.placement import ask_gpu_memory_bytes, deployment_options, gpu_share, node_that_lacks
from t3d_server.serving.ray_internals import (
    NO_ROOM,
    STARTUP_FAILED,
    kill_replicas,
    new_handle,
    start_deleting,
    start_deploying,
)
from t3d_server.serving.replica import AlgorithmReplica
from t3d_server.serving.resources import Connect, PlacementDefaults, application_name

ROOT_PREFIX = "bound-"
POLL_S = 0.1
DEPLOY_S = 30.0
"""Time for an application to appear in Serve's status; it does not if it is deleted at once."""
REASON_TIMEOUT_S = 10.0
SHUTDOWN_S = 5.0
"""Time for the replicas of a removed application to end; they have no run any more."""
SERVE_START_UP_S = 120.0
"""Time for the start of a replica, without `load_assets`: its process, the imports, the download of its files."""


class Root:
    """Binds the device deployments of an application."""

    def __init__(self, *devices: Any) -> None:
        """Never called."""


class Applications:
    """The algorithms' applications on this cluster.

    Args:
        connect: makes the resources of a replica's process.
        defaults: resources of replicas whose manifest does not set them.
    """

    def __init__(self, connect: Connect, defaults: PlacementDefaults) -> None:
        self._connect = connect
        self._defaults = defaults
        self._lock = asyncio.Lock()  # the controller takes one change after the other anyway
        self._handles: dict[tuple[str, Device], Any] = {}
        self._deployed: dict[str, list[Device]] = {}
        self._gpu_memory_bytes = defaults.gpu_memory_bytes

    async def deploy(self, version: AlgorithmVersion, devices: list[Device]) -> None:
        """Have a version served on these devices; does not wait for replicas, of which there may be none.

        An application that runs already from the same content is left alone, also where it has a device that the
        cluster lacks for the moment: its replicas may be at work.
        """
        manifest = version.manifest
        name = application_name(manifest.name, manifest.version)
        wanted = [device for device in devices if device in manifest.supported_devices]
        if name in self._deployed and set(wanted) <= set(self._deployed[name]):
            return
        async with self._lock:
            await self._ensure_deployed(version, name, wanted)

    async def deploy_again(self, version: AlgorithmVersion) -> None:
        """Deploy an application again that `is_deleted`, on the same devices; calls that wait for it are answered then.

        Args:
            version: the version that it serves.
        """
        name = application_name(version.manifest.name, version.manifest.version)
        async with self._lock:
            if name in self._deployed:  # else `remove` has come first
                await self._ensure_deployed(version, name, self._deployed[name])

    async def is_deleted(self, application: str) -> bool:
        """Whether somebody has deleted an application that was deployed here, other than by `remove`."""
        present = (await asyncio.to_thread(serve.status)).applications.get(application)
        return application in self._deployed and _is_absent(present)

    async def require_gpu_memory(self, manifest: Manifest) -> None:
        """Check that a GPU has the memory that a version requires.

        Raises:
            LoadFailedError: the GPU has less.
        """
        await self._learn_gpu_memory(manifest)
        asked, there = manifest.gpu_memory_bytes, self._gpu_memory_bytes
        if asked is not None and there is not None and asked > there:
            raise LoadFailedError(
                f"{manifest.name} {manifest.version} asks for {asked} bytes of GPU memory, but a GPU has {there}: "
                "lower `gpu_memory` under [tool.t3dserver]."
            )

    async def remove_others(self, names: set[str]) -> None:
        """Remove algorithms' applications, but for these; other applications of the cluster are left alone."""
        status = await asyncio.to_thread(serve.status)
        for name, application in status.applications.items():
            if name not in names and any(deployment.startswith(ROOT_PREFIX) for deployment in application.deployments):
                await self.remove(name)

    async def prove(self, manifest: Manifest, device: Device) -> tuple[Manifest, list[LogLine]]:
        """Wait until a replica has loaded the version.

        Returns:
            The manifest with the algorithm type resolved, and what was logged while loading.

        Raises:
            LoadFailedError: no replica could be started, or none in time.
        """
        name = application_name(manifest.name, manifest.version)
        timeout_s = manifest.load_timeout_s + SERVE_START_UP_S
        response = self.handle(name, device).describe.remote()
        answer = asyncio.ensure_future(response)
        failure = asyncio.ensure_future(self._failure(name, device))
        try:
            done, _ = await asyncio.wait({answer, failure}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if answer in done:
                if answer.exception() is None:
                    described: tuple[Manifest, list[LogLine]] = answer.result()
                    return described
                # Serve rejects calls as soon as it has given up; the reason is in its status a little later.
                await asyncio.wait({failure}, timeout=REASON_TIMEOUT_S)
            if failure.done():
                reason = failure.result()
            else:
                reason = str(answer.exception()) if answer.done() else f"no replica was ready in {timeout_s:g} s"
            raise LoadFailedError(f"{manifest.name} {manifest.version} could not be started on {device}: {reason}")
        finally:
            failure.cancel()
            if not answer.done():
                response.cancel()
                answer.cancel()

    async def remove(self, application: str) -> None:
        """Stop serving an application that has no run left; returns when its replicas are gone."""
        async with self._lock:
            self._deployed.pop(application, None)  # first: it is not to be deployed again
            await asyncio.to_thread(start_deleting, application)
            self._forget(application)
        gone = asyncio.ensure_future(self._until(lambda applications: application not in applications))
        # Serve itself waits for as long as a run may take: for code that hangs, and for a place to start.
        while not (await asyncio.wait({gone}, timeout=SHUTDOWN_S))[0]:
            await asyncio.to_thread(kill_replicas, application)
        gone.result()

    async def obstacle(self, application: str, device: Device) -> str | None:
        """Why replicas cannot load: Serve's message when several in a row have ended while they loaded; else None.

        One that works and then dies makes an application UNHEALTHY too, until the next one works: that may wait for
        room. So may one after another that were to start on a node which has died.
        """
        status = (await asyncio.to_thread(serve.status)).applications.get(application)
        if status is None:
            return None
        if device not in status.deployments:
            return status.message if status.status is ApplicationStatus.DEPLOY_FAILED else None
        deployment = status.deployments[device]
        if deployment.status_trigger != STARTUP_FAILED:
            return None
        return None if was_by_node(deployment.message) else cause(deployment.message)

    async def shortage(self, version: AlgorithmVersion, device: Device) -> str | None:
        """What a replica of a version waits for, a node that is large enough or room on one; None where for neither."""
        reserved = self._options(version, device)["ray_actor_options"]
        lacking = await asyncio.to_thread(node_that_lacks, reserved["num_cpus"], reserved["num_gpus"])
        if lacking is not None:
            return f"waits for {lacking}: the cluster has none"
        name = application_name(version.manifest.name, version.manifest.version)
        status = (await asyncio.to_thread(serve.status)).applications.get(name)
        deployment = None if status is None else status.deployments.get(device)
        full = deployment is not None and NO_ROOM in deployment.message
        return "waits for room: each node that is large enough is full" if full else None

    def handle(self, application: str, device: Device) -> Any:
        """Handle of the deployment that serves an application on a device."""
        key = (application, device)
        if key not in self._handles:
            self._handles[key] = new_handle(device, application)
        return self._handles[key]

    async def _ensure_deployed(self, version: AlgorithmVersion, name: str, wanted: list[Device]) -> None:
        """Deploy an application, unless Serve has it from the same content; with the lock held.

        Raises:
            TimeoutError: the application did not appear, or was deleted at once; may be called again.
        """
        if "gpu" in wanted:
            await self._learn_gpu_memory(version.manifest)
        served = self._served(version, (await asyncio.to_thread(serve.status)).applications.get(name))
        if served is None or not set(wanted) <= set(served):
            served, root = wanted, self._root(version, wanted)
            application = self._build(version, wanted, root)
            await asyncio.to_thread(start_deploying, application, name)
            # Until then, a new handle still sees that a former application of that name was deleted.
            try:
                async with asyncio.timeout(DEPLOY_S):
                    await self._until(lambda applications: root in getattr(applications.get(name), "deployments", ()))
            except TimeoutError:
                raise TimeoutError(f"Ray Serve has no {name} {DEPLOY_S:g} s after its deployment") from None
            self._forget(name)
        self._deployed[name] = served

    async def _until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for a state of the applications, by name; Serve has no event to wait for."""
        while not holds((await asyncio.to_thread(serve.status)).applications):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    def _forget(self, application: str) -> None:
        for key in [key for key in self._handles if key[0] == application]:
            del self._handles[key]

    async def _failure(self, application: str, device: Device) -> str:
        """Wait until Serve gives the application up; returns the reason."""
        while (obstacle := await self.obstacle(application, device)) is None:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(1.0)
        return obstacle

    async def _learn_gpu_memory(self, manifest: Manifest) -> None:
        """Ask for the memory of a GPU, if the version depends on it and it is not known yet."""
        if manifest.gpu_memory_bytes is not None and self._gpu_memory_bytes is None:
            self._gpu_memory_bytes = await asyncio.to_thread(ask_gpu_memory_bytes)

    def _served(self, version: AlgorithmVersion, present: Any) -> list[Device] | None:
        """The devices of an application, if it was made from this very version; else None."""
        if _is_absent(present):
            return None
        devices = [device for device in version.manifest.supported_devices if device in present.deployments]
        return devices if self._root(version, devices) in present.deployments else None

    def _options(self, version: AlgorithmVersion, device: Device) -> dict[str, Any]:
        return deployment_options(version.manifest, device, self._defaults, self._gpu_memory_bytes)

    def _build(self, version: AlgorithmVersion, devices: list[Device], root: str) -> serve.Application:
        bound = []
        for device in devices:
            share = None
            if device == "gpu":
                share = min(gpu_share(version.manifest, self._defaults, self._gpu_memory_bytes), 1.0)
            replica: Any = serve.deployment(AlgorithmReplica)
            options = self._options(version, device)
            bound.append(replica.options(**options).bind(self._connect, version, device, share))
        binder: Any = serve.deployment(Root)
        idle = {"min_replicas": 0, "max_replicas": 1}
        actor_options = {"num_cpus": 0, "runtime_env": {"env_vars": {}}}
        application: serve.Application = binder.options(
            name=root, autoscaling_config=idle, ray_actor_options=actor_options
        ).bind(*bound)
        return application

    def _root(self, version: AlgorithmVersion, devices: list[Device]) -> str:
        """Name of the root deployment."""
        # Not what is known only after loading: the record has it at the next start, but not at the first deployment.
        known_later = {"proven": True, "warnings": True, "published_at": True}
        spec = [
            t3d_server.__version__,
            version.model_dump(
                mode="json", exclude={**known_later, "manifest": {"algorithm_type", "inputs", "outputs"}}
            ),
            {device: str(self._options(version, device)) for device in devices},
        ]
        return ROOT_PREFIX + hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]


def _is_absent(present: Any) -> bool:
    """Whether Serve has no application for this status: it has none at all, or is about to delete it."""
    return present is None or present.status is ApplicationStatus.DELETING
