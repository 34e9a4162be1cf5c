"""The files of a package on this machine: in the author's own folder, or fetched from the store into a cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from t3d_server.errors import InvalidPackageError
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.archive import unpack
from t3d_server.packages.folder import meant_to_open, scan
from t3d_server.packages.wording import did_you_mean
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import asset_key, module_key


@dataclass(frozen=True)
class Package:
    """A package whose code can be imported.

    Attributes:
        folder: holds the `.py` files; absolute, without links.
        asset: gives the local file of an asset by its path in the author's folder, or raises FileNotFoundError.
    """

    folder: Path
    asset: Callable[[str], Path]


def folder_package(folder: Path) -> Package:
    """The author's own folder as it is, for checks and debugging.

    Raises:
        InvalidPackageError: as `scan`.
        PayloadTooLargeError: as `scan`.
    """
    folder = folder.resolve()
    files, _ = scan(folder)
    assets = {path: file for path, file in files.items() if not path.endswith(".py")}
    return Package(folder, lambda path: assets[_find(path, assets)])


def fetch_package(store: ObjectStore, version: AlgorithmVersion, cache: Path) -> Package:
    """Fetch the code of a version now, and its assets when they are asked for.

    Several processes may share the cache: what it holds is addressed by content, complete and never changed.

    Args:
        store: holds the module archive and the assets.
        version: the version.
        cache: folder of this machine; made if it is missing.

    Raises:
        InvalidPackageError: the stored archive is damaged or unsafe.
        PayloadTooLargeError: the stored archive unpacks to more than the limit.
        ObjectNotFoundError: the store lacks the archive.
    """
    cache = cache.resolve()
    folder = cache / "modules" / version.module_sha256
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _fetch_module(store, version.module_sha256, folder)

    def asset(path: str) -> Path:
        sha256 = version.assets[_find(path, version.assets)]
        file = cache / "assets" / sha256
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _fetch_asset(store, sha256, file)
        return file

    return Package(folder, asset)


def _fetch_module(store: ObjectStore, sha256: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        with tempfile.TemporaryFile(dir=temporary) as archive:
            _download(store, module_key(sha256), sha256, archive)
            archive.seek(0)
            unpacked = Path(temporary) / "module"
            unpacked.mkdir()
            unpack(archive, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            # Another process was faster; what it made is the same.
            if not folder.exists():
                raise


def _fetch_asset(store: ObjectStore, sha256: str, file: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as content:
            _download(store, asset_key(sha256), sha256, content)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _download(store: ObjectStore, key: str, sha256: str, target: BinaryIO) -> None:
    digest = hashlib.sha256()
    for chunk in store.get(key):
        digest.update(chunk)
        target.write(chunk)
    if digest.hexdigest() != sha256:
        raise InvalidPackageError(f"{key} is damaged: its content has another hash than its name. Publish it again.")


def _find(path: str, assets: Collection[str]) -> str:
    """The asset that an author's path means: `./` and backslashes are understood."""
    parts = PurePosixPath(os.fspath(path).replace("\\", "/")).parts
    name = "/".join(parts)
    if name in assets:
        return name
    if ".." in parts or name.startswith("/"):
        raise FileNotFoundError(f"fetch_asset: {path!r} leaves the algorithm folder; give a path inside of it")
    if name.endswith(".py"):
        raise FileNotFoundError(f"fetch_asset: {path!r} is code, which is imported and not fetched")
    hint = did_you_mean(name, assets) or f"; there are: {', '.join(sorted(meant_to_open(assets))[:20]) or 'none'}"
    raise FileNotFoundError(f"fetch_asset: the algorithm folder has no file {path!r}{hint}")
