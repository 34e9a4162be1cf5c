"""Builds packages, and tries their import, in Ray processes of their own, since that takes much CPU time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ray

from t3d_server.errors import InvalidPackageError
from t3d_server.models import AlgorithmVersion, PublishRequest
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.fetch import fetch_package
from t3d_server.packages.folder import materialise
from t3d_server.packages.import_check import check_import
from t3d_server.serving.coordinator_client import unwrapped
from t3d_server.serving.resources import Connect


class Builder:
    """Builds packages from what clients have uploaded.

    Args:
        connect: makes the resources of the processes.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def build(self, request: PublishRequest) -> AlgorithmVersion:
        """Build a package and store it.

        Returns:
            The record to publish.

        Raises:
            InvalidPackageError, PayloadTooLargeError: the folder breaks rules.
            MissingBlobsError: files of it are not stored.
        """
        return await _answered(_build.remote(self._connect, request))

    async def check_import(self, version: AlgorithmVersion) -> AlgorithmVersion:
        """Import a package as a replica would.

        Returns:
            The record, with what the import has shown.

        Raises:
            ImportFailedError, InvalidPackageError: a replica could not.
        """
        return await _answered(_check_import.remote(self._connect, version))


async def _answered(answer: Any) -> AlgorithmVersion:
    try:
        version: AlgorithmVersion = await answer
    except ray.exceptions.RayTaskError as error:
        raise unwrapped(error) from None
    return version


@ray.remote(num_cpus=0, max_retries=0)
def _build(connect: Connect, request: PublishRequest) -> AlgorithmVersion:
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
        try:
            built = build(folder, tags=resources.tags, where="where the server runs")
        except InvalidPackageError as error:  # names the temporary folder, which its author does not know
            message = error.message.replace(str(folder), "what was sent")
            raise InvalidPackageError(message, problems=error.problems) from error
        return store_package(resources.store, built)


@ray.remote(num_cpus=0, max_retries=0)
def _check_import(connect: Connect, version: AlgorithmVersion) -> AlgorithmVersion:
    resources = connect()
    package = fetch_package(resources.store, version, resources.cache)
    manifest, warnings = check_import(package, version.manifest, version.manifest.load_timeout_s, tags=resources.tags)
    return version.model_copy(update={"manifest": manifest, "warnings": [*version.warnings, *warnings]})
