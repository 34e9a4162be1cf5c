"""Keeps a development version of algorithm folders deployed, which is replaced at each save."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.cli.output import console, print_error, print_warnings, reporting_file_errors
from t3d_server.cli.publishing import count_runs, print_unchanged, publish
from t3d_server.cli.versions import OPEN_ENDS, Deployment, raised_version
from t3d_server.cli.watching import print_saved, print_waiting, saves
from t3d_server.client import Client
from t3d_server.errors import AlgorithmNotFoundError, ForbiddenError, NotFoundError, T3dError, UnauthorizedError
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.builder import BuiltPackage, build
from t3d_server.packages.folder import scan
from t3d_server.packages.manifest import parse_manifest

_MANIFEST = "pyproject.toml"


def publish_at_each_save(client: Client, paths: Sequence[Path]) -> None:
    """Keep a development version of each folder deployed; ends by KeyboardInterrupt.

    Raises:
        UnauthorizedError, ForbiddenError: the token is not an admin's. All other errors are shown.
    """
    folders = [_Folder(client, path) for path in paths]
    what = ", ".join(map(str, paths))
    console.print(f"deploying {what} now and at each save (Ctrl-C ends)", style="dim", markup=False)
    begun = False
    for saved in saves(paths):
        if saved or not begun:
            begun = True
            changed = [folder for folder in folders if folder.update(saved)]
            if changed:
                print_waiting(what)


class _Folder:
    """An algorithm folder and its development version.

    Args:
        client: connection to the server.
        path: the folder.
    """

    def __init__(self, client: Client, path: Path) -> None:
        self._client = client
        self._path = path
        # Hash of the content that was tried last: whether it failed or not, it is not tried again.
        self._tried = ""
        self._own_versions: list[tuple[str, str]] = []

    def update(self, saved: set[Path]) -> bool:
        """Deploy the content of the folder, and remove the version that was deployed before; errors are shown.

        Returns:
            Whether the content has changed since the last attempt.
        """
        try:
            with reporting_file_errors():
                built = build(self._path, tags=load_tags())
        except T3dError as error:
            print_saved(saved)
            print_error(error)
            return True
        if built.source_sha256 == self._tried:
            return False
        self._tried = built.source_sha256
        print_saved(saved)
        try:
            with reporting_file_errors():
                self._deploy(built)
        except (UnauthorizedError, ForbiddenError):
            raise
        except T3dError as error:
            print_error(error)
            if isinstance(error, OPEN_ENDS):
                self._tried = ""  # the next save tries it again, with a change or without
        return True

    def _deploy(self, built: BuiltPackage) -> None:
        manifest_path = self._path / _MANIFEST
        with tempfile.TemporaryDirectory(prefix="t3d-") as temporary:
            # The author's own file, which an editor may hold open, stays as it is until the version is there.
            raised = Path(temporary) / _MANIFEST
            before = manifest_path.read_bytes()
            raised.write_bytes(before)
            name = built.manifest.name
            version = _free_version(self._client, built, raised)
            if version is None:
                print_unchanged(name, built.manifest.version)
                return
            self._tried = self._published(name, version, raised, before).source_sha256
            self._keep(raised, before)
        # The same number may be tried twice, if the outcome was not known.
        earlier = [own for own in self._own_versions if own != (name, version)]
        self._own_versions = [*earlier, (name, version)]
        for own in earlier:
            if self._is_removed(*own):
                self._own_versions.remove(own)

    def _keep(self, raised: Path, before: bytes) -> None:
        """Give the folder the raised manifest, unless its author has changed it meanwhile."""
        manifest_path = self._path / _MANIFEST
        if manifest_path.read_bytes() == before:
            manifest_path.write_bytes(raised.read_bytes())

    def _published(self, name: str, version: str, manifest_path: Path, before: bytes) -> AlgorithmVersion:
        """Publish the folder with another manifest than its own."""
        deployment = Deployment()
        files, warnings = scan(self._path)
        try:
            return publish(self._client, self._path, {**files, _MANIFEST: manifest_path}, warnings, deployment)
        except (*OPEN_ENDS, KeyboardInterrupt):
            if deployment.asked:
                self._own_versions.append((name, version))
                self._keep(manifest_path, before)
                print_warnings([f"{self._path / _MANIFEST}: has {version} now, as that may have been published"])
            raise

    def _is_removed(self, name: str, version: str) -> bool:
        """Remove an earlier version, unless it has runs."""
        if count_runs(self._client, name, version):
            console.print(f"{name} {version} stays until a later save, as it has runs", markup=False)
            return False
        with suppress(NotFoundError):
            self._client.remove(name, version)
            console.print(f"{name} {version} is removed", markup=False)
        return True


def _free_version(client: Client, built: BuiltPackage, manifest_path: Path) -> str | None:
    """Raise the version in a manifest until it was never published.

    Returns:
        The version; None if that of the package is published with the same content.
    """
    name, version = built.manifest.name, built.manifest.version
    try:
        info = client.algorithm(name)
    except AlgorithmNotFoundError:
        return version
    taken = {*info.versions, *info.removed_versions}
    if version in info.versions and client.version(name, version).source_sha256 == built.source_sha256:
        return None
    while version in taken:
        with raised_version(manifest_path, "patch"):
            pass
        version = parse_manifest(manifest_path.read_text("utf-8-sig"), tags=load_tags())[0].version
    return version
