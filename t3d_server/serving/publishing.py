"""Publishing: build a package, prove that a replica loads it, and only then write the version's record."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import ray

from t3d_server.errors import T3dError
from t3d_server.models import AlgorithmVersion, Device, LogLine, Publication, PublishRequest
from t3d_server.packages.builder import build, source_hash, store_package
from t3d_server.packages.fetch import fetch_package
from t3d_server.packages.folder import materialise
from t3d_server.packages.import_check import check_import
from t3d_server.packages.registry import Registry
from t3d_server.serving.applications import Applications, application_name
from t3d_server.serving.calls import unwrapped
from t3d_server.serving.resources import Connect

PUBLICATIONS_REMEMBERED = 100


@dataclass
class _Publishing:
    """A publication under way, or one that has ended lately."""

    stage: str = "waiting for its turn"
    task: asyncio.Task[AlgorithmVersion] | None = None


class Publisher:
    """Publishes algorithm folders, one at a time.

    Attributes:
        turn: held while content is stored or removed: versions share it, so that one change goes on at a time.

    Asking again for the same content joins the publication that is under way, so that a client can wait in short
    requests, and go on after it was cut off.

    Args:
        connect: makes the resources of the process that builds.
        registry: the published versions.
        applications: the algorithms' applications.
        devices: tells which devices the cluster has.
        changed: is awaited when the registry has changed.
    """

    def __init__(
        self,
        connect: Connect,
        registry: Registry,
        applications: Applications,
        devices: Callable[[], list[Device]],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._connect = connect
        self._registry = registry
        self._applications = applications
        self._devices = devices
        self._changed = changed
        self._publications: dict[str, _Publishing] = {}
        self._proofs: dict[tuple[str, Device], asyncio.Future[None]] = {}
        self.turn = asyncio.Lock()

    async def publish(self, request: PublishRequest, wait_s: float) -> Publication:
        """Publish a folder, or go on waiting for it.

        Returns:
            How far it has come after `wait_s` at most.

        Raises:
            InvalidPackageError, ImportFailedError, LoadFailedError, VersionConflictError: it cannot be published.
        """
        key = source_hash(request.files)
        publishing = self._publications.get(key)
        if publishing is None:
            publishing = self._publications[key] = _Publishing()
            publishing.task = asyncio.create_task(self._publish(request, publishing))
            while len(self._publications) > PUBLICATIONS_REMEMBERED:
                del self._publications[next(iter(self._publications))]
        assert publishing.task is not None  # noqa: S101  # set in the same step in which it was made
        done, _ = await asyncio.wait({publishing.task}, timeout=wait_s)
        if not done:
            return Publication(stage=publishing.stage)
        self._publications.pop(key, None)
        return Publication(stage="published", version=publishing.task.result())

    def load_failed(self, application: str, device: Device, error: T3dError) -> None:
        """A replica tells that it could not load."""
        proof = self._proofs.get((application, device))
        if proof is not None and not proof.done():
            proof.set_exception(error)

    async def _publish(self, request: PublishRequest, publishing: _Publishing) -> AlgorithmVersion:
        async with self.turn:
            publishing.stage = "building the package"
            try:
                version: AlgorithmVersion = await _build.remote(self._connect, request)
            except ray.exceptions.RayTaskError as error:
                raise unwrapped(error) from None
            if await asyncio.to_thread(self._registry.existing, version) is None:
                try:
                    version = await self._prove(version, publishing)
                except BaseException:
                    manifest = version.manifest
                    await self._applications.remove(application_name(manifest.name, manifest.version))
                    await asyncio.to_thread(self._registry.discard, version)
                    raise
            publishing.stage = "writing the record"
            version = await asyncio.to_thread(self._registry.publish, version)
            await self._changed()
            return version

    async def _prove(self, version: AlgorithmVersion, publishing: _Publishing) -> AlgorithmVersion:
        """Have a replica load the version on each device it supports and the cluster has."""
        manifest, proven, warnings = version.manifest, [], list(version.warnings)
        devices = self._devices()
        await self._applications.deploy(version, devices)
        for device in manifest.supported_devices:
            if device not in devices:
                warnings.append(f"not proven on {device}: the cluster has none")
                continue
            publishing.stage = f"loading on {device}"
            described, lines = await self._loaded(version, device)
            manifest = manifest.model_copy(update={"algorithm_type": described})
            warnings += [line.message for line in lines if line.level in ("WARNING", "ERROR")]
            proven.append(device)
        unique = list(dict.fromkeys(warnings))
        return version.model_copy(update={"manifest": manifest, "proven": proven, "warnings": unique})

    async def _loaded(self, version: AlgorithmVersion, device: Device) -> tuple[str | None, list[LogLine]]:
        """Wait for a replica, or for the error that it reports; returns the algorithm's type and the load's log."""
        application = application_name(version.manifest.name, version.manifest.version)
        reported = self._proofs[application, device] = asyncio.get_running_loop().create_future()
        proof = asyncio.create_task(self._applications.prove(version.manifest, device))
        try:
            await asyncio.wait({proof, reported}, return_when=asyncio.FIRST_COMPLETED)
            if reported.done():
                reported.result()
            described, lines = proof.result()
            return described.algorithm_type, lines
        finally:
            del self._proofs[application, device]
            proof.cancel()
            reported.cancel()


@ray.remote(num_cpus=0, max_retries=0)
def _build(connect: Connect, request: PublishRequest) -> AlgorithmVersion:
    """Build a package from blobs and store it; in a process of its own, since it is work for the CPU."""
    resources = connect()
    with tempfile.TemporaryDirectory(dir=resources.scratch, prefix="t3d-build-") as name:
        folder = Path(name) / "package"
        materialise(
            resources.store,
            request.files,
            folder,
            max_files=resources.max_package_files,
            max_bytes=resources.max_package_bytes,
        )
        built = build(folder, tags=resources.tags)
        version = store_package(resources.store, built)
    if version.manifest.check_importable:
        package = fetch_package(resources.store, version, resources.cache)
        manifest, warnings = check_import(
            package, version.manifest, version.manifest.load_timeout_s, tags=resources.tags
        )
        version = version.model_copy(update={"manifest": manifest, "warnings": [*version.warnings, *warnings]})
    for sha256 in set(request.files.values()):
        with contextlib.suppress(T3dError):  # the sweep of a later publication finds it again
            resources.store.delete(f"blobs/{sha256}")
    return version
