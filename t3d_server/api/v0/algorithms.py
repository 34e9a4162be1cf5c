"""Algorithms as the v0 API has them: one for each name and major version, with its minor versions."""

from __future__ import annotations

import asyncio
import builtins
import uuid
from collections.abc import Collection
from dataclasses import dataclass

from t3d_server.api.service import Service
from t3d_server.api.v0.models import Algorithm, Parameter, ParameterConfig
from t3d_server.errors import AlgorithmNotFoundError, InvalidPackageError, NotFoundError, VersionNotFoundError
from t3d_server.ids import version_1
from t3d_server.models import AlgorithmVersion


def algorithm_id(name: str, major: str) -> str:
    """Id of an algorithm: always the same for a name, in any case, and a major version."""
    return version_1(str(uuid.uuid5(uuid.NAMESPACE_URL, f"t3d:algorithms/{name.lower()}/{major}")))


@dataclass(frozen=True)
class MajorVersion:
    """The versions of an algorithm that share their major number.

    Attributes:
        name: the algorithm's name.
        major: the number.
        versions: all of them, newest first.
    """

    name: str
    major: str
    versions: list[str]

    @property
    def minors(self) -> list[str]:
        """Minor versions, newest first."""
        return list(dict.fromkeys(version.split(".")[1] for version in self.versions))

    def version(self, minor: str | None) -> str:
        """The latest patch of a minor version, the latest version where None.

        Raises:
            VersionNotFoundError: there is none.
        """
        for version in self.versions:
            if minor in (None, version.split(".")[1]):
                return version
        raise VersionNotFoundError(
            f"{self.name} {self.major} has no minor version {minor!r:.40}; it has {', '.join(self.minors)}"
        )


class Algorithms:
    """Finds algorithms.

    Args:
        service: the operations.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def by_id(self, wanted: str) -> MajorVersion:
        """The algorithm of an id, in any case, and with any version digit.

        Raises:
            AlgorithmNotFoundError: there is none.
        """
        identifier = version_1(wanted.lower())
        for major_version in await self._major_versions():
            if algorithm_id(major_version.name, major_version.major) == identifier:
                return major_version
        raise AlgorithmNotFoundError(f"No algorithm has the id {wanted!r:.80}.")

    async def find(self, name: str, major: str) -> Algorithm:
        """The algorithm of a name, in any case, and a major version.

        Raises:
            AlgorithmNotFoundError: there is none.
        """
        for major_version in await self._major_versions():
            if (major_version.name.casefold(), major_version.major) == (name.casefold(), major):
                return await self._described(major_version)
        raise AlgorithmNotFoundError(f"There is no algorithm {name[:80]!r} with the major version {major[:20]!r}.")

    async def list(
        self,
        with_tags: Collection[str],
        without_tags: Collection[str],
        devices: Collection[str],
        algorithm_type: str | None,
    ) -> builtins.list[Algorithm]:
        """Algorithms that have all of `with_tags`, none of `without_tags`, and any of `devices`, unless that is empty.

        Raises:
            AlgorithmNotFoundError: none is published at all.
        """
        majors = await self._major_versions()
        if not majors:
            raise AlgorithmNotFoundError("No algorithm is published.")
        found = await asyncio.gather(*map(self._described_if_there, majors))
        return [
            each
            for each in found
            if each is not None
            and set(with_tags) <= set(each.algorithm_tags)
            and not set(without_tags) & set(each.algorithm_tags)
            and (not devices or set(devices) & set(each.supported_devices))
            and algorithm_type in (None, each.algorithm_type)
        ]

    async def _major_versions(self) -> builtins.list[MajorVersion]:
        majors: dict[tuple[str, str], MajorVersion] = {}
        for name, versions in (await self._service.workers.run(self._service.registry.numbers)).items():
            for version in versions:
                major = version.split(".")[0]
                majors.setdefault((name, major), MajorVersion(name, major, [])).versions.append(version)
        return list(majors.values())

    async def _described(self, major_version: MajorVersion) -> Algorithm:
        return _algorithm(major_version, await self._service.version(major_version.name, major_version.version(None)))

    async def _described_if_there(self, major_version: MajorVersion) -> Algorithm | None:
        try:
            return await self._described(major_version)
        except (NotFoundError, InvalidPackageError):  # removed meanwhile, or its record cannot be read
            return None


def _algorithm(major_version: MajorVersion, latest: AlgorithmVersion) -> Algorithm:
    manifest = latest.manifest
    return Algorithm(
        algorithm_id=algorithm_id(major_version.name, major_version.major),
        algorithm_name=major_version.name,
        algorithm_version=major_version.major,
        algorithm_minor_versions=major_version.minors,
        latest_algorithm_minor_version=major_version.minors[0],
        algorithm_minor_version=major_version.minors[0],
        algorithm_type=manifest.algorithm_type,
        algorithm_tags=manifest.tags,
        algorithm_description=manifest.description,
        supported_devices=manifest.supported_devices,
        default_device=manifest.default_device,
        additional_parameters=[
            Parameter(
                name=each.name,
                displayed_name=each.name,
                description=each.description,
                config=ParameterConfig(
                    type=each.type,
                    default=each.default,
                    adjustable=each.adjustable,
                    options=each.options or [],
                    min=each.min,
                    max=each.max,
                    step=each.step,
                ),
            )
            for each in manifest.additional_parameters
        ],
    )
