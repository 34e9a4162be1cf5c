"""Publishing: build a package, prove that a replica loads it, and only then write the version's record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from t3d_server.errors import ImportFailedError, LoadFailedError, MissingBlobsError, Problem, T3dError
from t3d_server.models import AlgorithmVersion, Device, LogLine, Manifest, Publication, PublishRequest
from t3d_server.packages.builder import source_hash
from t3d_server.packages.folder import delete_blobs
from t3d_server.packages.registry import Registry
from t3d_server.serving.resources import application_name
from t3d_server.storage.base import ObjectStore

logger = logging.getLogger("ray.serve")

FAILURE_REMEMBERED_S = 60.0
"""A client whose connection broke off asks again within this time, and gets the error of its publication."""


class Builder(Protocol):
    """Builds packages; see `building.Builder`."""

    async def build(self, request: PublishRequest) -> AlgorithmVersion:
        """Build a package from blobs and store it."""

    async def check_import(self, version: AlgorithmVersion) -> AlgorithmVersion:
        """Import a package as a replica would."""


class Applications(Protocol):
    """Serves versions; see `applications.Applications`."""

    async def require_gpu_memory(self, manifest: Manifest) -> None:
        """Check that a GPU has the memory that a version requires."""

    async def deploy(self, version: AlgorithmVersion, devices: list[Device]) -> None:
        """Have a version served on these devices."""

    async def prove(self, manifest: Manifest, device: Device) -> tuple[Manifest, list[LogLine]]:
        """Wait until a replica has loaded the version."""

    async def remove(self, application: str) -> None:
        """Stop serving an application."""


@dataclass
class _Publishing:
    """A publication under way, or one that has failed lately."""

    stage: str = "waiting for other publications"
    task: asyncio.Task[AlgorithmVersion] | None = None


class Publisher:
    """Publishes algorithm folders, one at a time.

    Asking again for the same content joins the publication that is under way, so that a client can wait in short
    requests, and go on after it was cut off.

    Attributes:
        lock: held while content is stored or removed; versions share content, so only one change is made at a time.

    Args:
        store: where clients put blobs.
        builder: builds packages.
        registry: the published versions.
        applications: the algorithms' applications.
        devices: returns the devices that the cluster has.
        changed: is awaited when the registry has changed.
    """

    def __init__(
        self,
        store: ObjectStore,
        builder: Builder,
        registry: Registry,
        applications: Applications,
        devices: Callable[[], list[Device]],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._builder = builder
        self._registry = registry
        self._applications = applications
        self._devices = devices
        self._changed = changed
        self._publications: dict[str, _Publishing] = {}
        self._proofs: dict[tuple[str, Device], asyncio.Future[None]] = {}
        self.lock = asyncio.Lock()

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish a folder, or go on waiting for it.

        Returns:
            How far it has come after `wait_s` at most.

        Raises:
            InvalidPackageError, ImportFailedError, LoadFailedError, VersionConflictError: it cannot be published.
            MissingBlobsError: files of it are not stored.
        """
        key = source_hash(request.files)
        publishing = self._publications.get(key)
        if publishing is None:
            publishing = self._publications[key] = _Publishing()
            publishing.task = asyncio.create_task(self._publish(request, key, publishing))
            publishing.task.add_done_callback(partial(self._ended, key, publishing))
        assert publishing.task is not None  # noqa: S101  # set in the same step in which it was made
        done, _ = await asyncio.wait({publishing.task}, timeout=wait_s)
        if not done:
            return Publication(stage=publishing.stage)
        self._forget(key, publishing)
        return Publication(stage="published", version=publishing.task.result())

    def load_failed(self, application: str, device: Device, error: T3dError) -> None:
        """A replica reports that it could not load."""
        proof = self._proofs.get((application, device))
        if proof is not None and not proof.done():
            proof.set_exception(error)

    def _ended(self, key: str, publishing: _Publishing, task: asyncio.Task[AlgorithmVersion]) -> None:
        if not task.cancelled() and task.exception() is not None:
            asyncio.get_running_loop().call_later(FAILURE_REMEMBERED_S, self._forget, key, publishing)

    def _forget(self, key: str, publishing: _Publishing) -> None:
        if self._publications.get(key) is publishing:
            del self._publications[key]

    async def _publish(self, request: PublishRequest, source_sha256: str, publishing: _Publishing) -> AlgorithmVersion:
        delete = partial(asyncio.to_thread, delete_blobs, self._store, request.files)
        async with self.lock:
            try:
                version = await asyncio.to_thread(self._registry.of_source, source_sha256)
                if version is None:
                    version = await self._publish_new(request, publishing)
                else:
                    version = await asyncio.to_thread(self._registry.publish, version)
                await self._changed()
            except MissingBlobsError:
                raise  # those that are there wait for the client to send the rest
            except BaseException:
                await _clean_up(delete)
                raise
            await _clean_up(delete)
            # A success needs no memory: the same content is found among the versions, for as long as it is there.
            self._forget(source_sha256, publishing)
            return version

    async def _publish_new(self, request: PublishRequest, publishing: _Publishing) -> AlgorithmVersion:
        """Publish what may be a new version; where that fails, nothing of it stays."""
        publishing.stage = "building the package"
        version = await self._builder.build(request)
        manifest = version.manifest
        async with AsyncExitStack() as undo:
            undo.push_async_callback(_clean_up, partial(asyncio.to_thread, self._registry.discard, version))
            existing = await asyncio.to_thread(self._registry.existing, version)
            if existing is not None:
                return await asyncio.to_thread(self._registry.publish, existing)
            application = application_name(manifest.name, manifest.version)
            try:
                if manifest.check_importable:
                    version = await self._builder.check_import(version)
                undo.push_async_callback(_clean_up, partial(self._applications.remove, application))
                version = await self._prove(version, publishing)
            except (ImportFailedError, LoadFailedError) as error:
                # The cause may be one of the warnings, such as a package that is not installed.
                error.problems += tuple(Problem("warning", text) for text in version.warnings)
                raise
            publishing.stage = "writing the record"
            undo.push_async_callback(_clean_up, partial(asyncio.to_thread, self._withdraw, version))
            version = await asyncio.to_thread(self._registry.publish, version)
            undo.pop_all()
        return version

    def _withdraw(self, version: AlgorithmVersion) -> None:
        """Remove a record that may have been written."""
        if self._registry.existing(version) is not None:
            self._registry.withdraw(version)

    async def _prove(self, version: AlgorithmVersion, publishing: _Publishing) -> AlgorithmVersion:
        """Have a replica load the version on each device it supports and the cluster has."""
        manifest, proven, warnings = version.manifest, [], list(version.warnings)
        devices = self._devices()
        if "gpu" in devices and "gpu" in manifest.supported_devices:
            await self._applications.require_gpu_memory(manifest)
        await self._applications.deploy(version, devices)
        for device in manifest.supported_devices:
            if device not in devices:
                warnings.append(f"not proven on {device}: the cluster has none")
                continue
            publishing.stage = f"loading on {device}"
            manifest, lines = await self._loaded(version, device)
            warnings += [line.message for line in lines if line.level in ("WARNING", "ERROR")]
            proven.append(device)
        unique = list(dict.fromkeys(warnings))
        return version.model_copy(update={"manifest": manifest, "proven": proven, "warnings": unique})

    async def _loaded(self, version: AlgorithmVersion, device: Device) -> tuple[Manifest, list[LogLine]]:
        """Wait for a replica, or for the error that it reports; returns the completed manifest and the load's log."""
        application = application_name(version.manifest.name, version.manifest.version)
        reported = self._proofs[application, device] = asyncio.get_running_loop().create_future()
        proof = asyncio.create_task(self._applications.prove(version.manifest, device))
        try:
            await asyncio.wait({proof, reported}, return_when=asyncio.FIRST_COMPLETED)
            if reported.done():
                reported.result()
            return proof.result()
        finally:
            del self._proofs[application, device]
            proof.cancel()
            reported.cancel()


async def _clean_up(step: Callable[[], Awaitable[object]]) -> None:
    """Run a step of the clean-up. Its error is logged, and does not replace the error that led to the clean-up."""
    try:
        await step()
    except Exception:
        logger.exception("a publication could not be cleaned up completely")
