"""Published algorithm versions: one record each, which one is current, and tombstones of those that were removed."""

from __future__ import annotations

import builtins
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from pydantic import ValidationError

from t3d_server.errors import (
    AlgorithmNotFoundError,
    InvalidPackageError,
    ObjectExistsError,
    ObjectNotFoundError,
    VersionConflictError,
    VersionNotFoundError,
)
from t3d_server.models import AlgorithmInfo, AlgorithmVersion, utc_now
from t3d_server.packages.manifest import NAME, VERSION
from t3d_server.packages.version_numbers import Numbers, list_numbers
from t3d_server.packages.wording import did_you_mean
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import asset_key, current_key, module_key, tombstone_key, version_key

logger = logging.getLogger(__name__)

_READERS = 8
T = TypeVar("T")


class Registry:
    """Versions in an object store. Changes are made by one writer at a time; reads may go on meanwhile.

    Runs name the version that they ran. So a number stands for one content for ever: where a version is removed, a
    tombstone keeps the hash of its source.

    Args:
        store: where the records, modules and assets are.
        pool: makes an executor of so many threads, in which records are read.
    """

    def __init__(self, store: ObjectStore, *, pool: Callable[[int], Executor] = ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool

    def publish(self, version: AlgorithmVersion) -> AlgorithmVersion:
        """Write the record of a version, and make it current.

        Publishing equal content again changes nothing but the current version; one that was removed is back then.

        Args:
            version: the record; its module and assets are stored already.

        Returns:
            The record as it is stored.

        Raises:
            VersionConflictError: the version is there, or was, with other content, or the name differs from another
                one by case alone.
        """
        name = version.manifest.name
        stored = self.existing(version)
        if stored is None:
            stored = version.model_copy(update={"published_at": utc_now()})
            try:
                self._store.put(version_key(name, stored.manifest.version), _dump(stored), if_absent=True)
            except ObjectExistsError:
                return self.publish(version)
        self._point(name, stored.manifest.version)
        return stored

    def existing(self, version: AlgorithmVersion) -> AlgorithmVersion | None:
        """The stored record of the same content, None if there is none and it may be written.

        Raises:
            VersionConflictError: as `publish`.
        """
        name, number = version.manifest.name, version.manifest.version
        for other in self.numbers():
            if other != name and other.casefold() == name.casefold():
                raise VersionConflictError(
                    f"{name!r} differs from the published algorithm {other!r} by case alone; "
                    f"use that name, or another one, in [project] name."
                )
        try:
            stored = self._read(name, number)
        except ObjectNotFoundError:
            if self._tombstone(name, number) not in (None, version.source_sha256):
                raise self._conflict(name, number, "was published before, and removed") from None
            return None
        if stored.source_sha256 != version.source_sha256:
            raise self._conflict(name, number, "is published already")
        return stored

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        """The record of a version, of the current one where None.

        Raises:
            AlgorithmNotFoundError: no algorithm has this name.
            VersionNotFoundError: it has no such version.
        """
        try:
            return self._read(name, version or self._pointer(name))
        except ObjectNotFoundError:
            numbers = self._numbers_of(name)
            if version is None:
                return self._read(name, numbers.published[0])
            what = f"{name} {version} was removed" if version in numbers.removed else f"{name} has no version {version}"
            hint = did_you_mean(version, numbers.published)
            raise VersionNotFoundError(f"{what}; it has {', '.join(numbers.published)}{hint}") from None

    def info(self, name: str) -> AlgorithmInfo:
        """An algorithm with all its versions.

        Raises:
            AlgorithmNotFoundError: no algorithm has this name.
        """
        return self._info(name, self._numbers_of(name))

    def list(self) -> builtins.list[AlgorithmInfo]:
        """All algorithms, by name; those whose current record cannot be read are left out, and logged."""
        numbers = _published(list_numbers(self._store))
        with self._pool(_READERS) as pool:
            infos = pool.map(lambda item: _readable(lambda: self._info(*item)), numbers.items())
            return [info for info in infos if info is not None]

    def numbers(self) -> dict[str, builtins.list[str]]:
        """Names of all algorithms, each with its versions, newest first."""
        return {name: numbers.published for name, numbers in _published(list_numbers(self._store)).items()}

    def versions(self) -> builtins.list[AlgorithmVersion]:
        """The records of all versions of all algorithms; those that cannot be read are left out, and logged."""
        return self._records(_readable)

    def of_source(self, source_sha256: str) -> AlgorithmVersion | None:
        """The version that was published from this content, None if there is none."""
        return next((version for version in self.versions() if version.source_sha256 == source_sha256), None)

    def set_current(self, name: str, version: str) -> None:
        """Make a version the one that requests without a version get.

        Raises:
            AlgorithmNotFoundError: no algorithm has this name.
            VersionNotFoundError: it has no such version.
        """
        self.find(name, version)
        self._point(name, version)

    def remove(self, name: str, version: str) -> None:
        """Remove a version and what only it uses. If it was current, the newest remaining one becomes current.

        Raises:
            AlgorithmNotFoundError: no algorithm has this name.
            VersionNotFoundError: it has no such version.
        """
        record = self.find(name, version)
        tombstone = {"source_sha256": record.source_sha256}
        self._store.put(tombstone_key(name, version), json.dumps(tombstone).encode())
        self.withdraw(record)

    def withdraw(self, version: AlgorithmVersion) -> None:
        """Remove a version that no run can name, as `remove`, but for the tombstone."""
        name, number = version.manifest.name, version.manifest.version
        rest = [other for other in self._numbers_of(name).published if other != number]
        # The record goes last: as long as it is there, a removal that was interrupted can be repeated.
        if not rest:
            self._store.delete(current_key(name))
        elif self._current(name, [number, *rest]) == number:
            self._point(name, rest[0])
        self._store.delete(version_key(name, number))
        self.discard(version)

    def discard(self, version: AlgorithmVersion) -> None:
        """Delete the module and the assets of a version that is not published, as far as no record uses them.

        While a record cannot be read, what it uses is not known, and nothing is deleted.
        """
        try:
            used = set(_content_keys(self._records(_unless_removed)))
        except InvalidPackageError:
            logger.exception("the content of %s %s is kept", version.manifest.name, version.manifest.version)
            return
        for key in sorted(set(_content_keys([version])) - used):
            self._store.delete(key)

    def _records(
        self, reading: Callable[[Callable[[], AlgorithmVersion]], AlgorithmVersion | None]
    ) -> builtins.list[AlgorithmVersion]:
        pairs = [(name, number) for name, numbers in self.numbers().items() for number in numbers]
        with self._pool(_READERS) as pool:
            records = pool.map(lambda pair: reading(lambda: self._read(*pair)), pairs)
            return [record for record in records if record is not None]

    def _info(self, name: str, numbers: Numbers) -> AlgorithmInfo:
        current = self._current(name, numbers.published)
        return AlgorithmInfo(
            name=name,
            current=current,
            versions=numbers.published,
            removed_versions=numbers.removed,
            version=self._read(name, current),
        )

    def _current(self, name: str, numbers: builtins.list[str]) -> str:
        """The current version; the newest where a crash left the pointer missing or dangling."""
        if len(numbers) == 1:
            return numbers[0]
        try:
            current = self._pointer(name)
        except ObjectNotFoundError:
            return numbers[0]
        return current if current in numbers else numbers[0]

    def _numbers_of(self, name: str) -> Numbers:
        numbers = _published(list_numbers(self._store, name)).get(name) if NAME.fullmatch(name) else None
        if numbers is None:
            names = self.numbers()
            known = f"published are: {', '.join(names)}" if names else "none is published"
            raise AlgorithmNotFoundError(f"No algorithm is named {name!r}; {known}{did_you_mean(name, names)}")
        return numbers

    def _conflict(self, name: str, number: str, what: str) -> VersionConflictError:
        free = list_numbers(self._store, name)[name].free_after(number)
        return VersionConflictError(
            f"{name} {number} {what}, with other content. A version never changes, since runs on record name it: "
            f"raise it to {free}, in pyproject.toml or with `t3d deploy --bump patch`."
        )

    def _read(self, name: str, version: str) -> AlgorithmVersion:
        # Both may come from a URL, and become part of a key.
        if not (NAME.fullmatch(name) and VERSION.fullmatch(version)):
            raise ObjectNotFoundError(f"{name!r} {version!r} is no version of an algorithm.")
        content = read(self._store, version_key(name, version))
        try:
            return AlgorithmVersion.model_validate_json(content)
        except ValidationError as error:
            raise InvalidPackageError(
                f"{version_key(name, version)} in the store is no record that this server reads: delete that object, "
                f"and publish {name} {version} again. {error}"
            ) from error

    def _tombstone(self, name: str, version: str) -> str | None:
        """Hash of the source of a version that was removed, None if there was none."""
        try:
            return str(json.loads(read(self._store, tombstone_key(name, version)))["source_sha256"])
        except ObjectNotFoundError:
            return None

    def _pointer(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ObjectNotFoundError(f"{name!r} is no name of an algorithm.")
        return str(json.loads(read(self._store, current_key(name)))["version"])

    def _point(self, name: str, version: str) -> None:
        self._store.put(current_key(name), json.dumps({"version": version}).encode())


def _published(numbers: dict[str, Numbers]) -> dict[str, Numbers]:
    """The algorithms that have published versions."""
    return {name: each for name, each in numbers.items() if each.published}


def _unless_removed(get: Callable[[], T]) -> T | None:
    """What `get` returns, None for what somebody removed after it was listed."""
    try:
        return get()
    except ObjectNotFoundError:
        return None


def _readable(get: Callable[[], T]) -> T | None:
    """As `_unless_removed`, and None, which is logged, for what cannot be read."""
    try:
        return _unless_removed(get)
    except InvalidPackageError:
        logger.exception("a version is left out")
        return None


def _dump(version: AlgorithmVersion) -> bytes:
    return version.model_dump_json().encode()


def _content_keys(versions: Iterable[AlgorithmVersion]) -> Iterator[str]:
    for version in versions:
        yield module_key(version.module_sha256)
        yield from map(asset_key, version.assets.values())
