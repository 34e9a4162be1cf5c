"""Builds the package of an algorithm: module archive, assets and manifest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from t3d_server.algorithm_utils import BaseRunner
from t3d_server.errors import InvalidPackageError, Problem
from t3d_server.models import AlgorithmVersion, Manifest
from t3d_server.packages.algorithm_type import base_of_runner
from t3d_server.packages.archive import pack
from t3d_server.packages.folder import scan
from t3d_server.packages.lint.linter import lint
from t3d_server.packages.lint.sources import Folder, parse
from t3d_server.packages.manifest import parse_manifest
from t3d_server.packages.minify import minify
from t3d_server.storage.base import ObjectStore, exists
from t3d_server.storage.keys import asset_key, module_key

_COMPILED = "only .py files can be imported; this is an asset. Install compiled code as a dependency"


@dataclass(frozen=True)
class BuiltPackage:
    """A package that is not stored yet.

    Attributes:
        manifest: the manifest.
        source_sha256: hash over the author's files, see `source_hash`.
        module: the module archive, a zip of every `.py` file.
        module_sha256: its SHA-256.
        assets: every other file, by its path in the folder.
        asset_sha256: their SHA-256.
        warnings: what was noticed and not refused.
    """

    manifest: Manifest
    source_sha256: str
    module: bytes
    module_sha256: str
    assets: dict[str, Path]
    asset_sha256: dict[str, str]
    warnings: list[str]


def build(folder: Path, *, tags: Mapping[str, Collection[str]], where: str = "here") -> BuiltPackage:
    """Check an algorithm folder and build its package. Runs none of its code.

    Args:
        folder: the author's folder.
        tags: the tags of each algorithm type.
        where: how warnings call this Python environment.

    Raises:
        InvalidPackageError: the folder breaks rules; it lists every problem.
        PayloadTooLargeError: the folder is over a limit of `scan` or `pack`.
    """
    files, left_out = scan(folder)
    code = {path: file.read_bytes() for path, file in files.items() if path.endswith(".py")}
    assets = {path: file for path, file in files.items() if path not in code}
    checked = Folder(parse(code), assets)
    problems = lint(checked, "errors")
    try:
        if "pyproject.toml" not in files:
            raise _no_folder(folder, 'is missing; it needs [project] with name and version = "1.0.0"', left_out)
        manifest, more = _read_manifest(folder, files["pyproject.toml"], tags, base_of_runner(checked))
    except InvalidPackageError as error:
        raise InvalidPackageError(error.message, problems=[*error.problems, *problems]) from error
    if problems:
        raise InvalidPackageError(f"The code of {manifest.name} cannot work.", problems=problems)
    # The folder is no package: its own __init__.py, which many have, is never imported.
    used = {path: source for path, source in checked.sources.items() if path != "__init__.py"}
    parameters = [parameter.name for parameter in manifest.additional_parameters]
    with_manifest = Folder(used, assets, parameters, manifest.dependencies, where)
    found = [
        *left_out,
        *map(str, lint(checked, "code")),
        *more,
        *map(str, lint(with_manifest, "manifest")),
        *(f"{path}: {_COMPILED}" for path in assets if path.endswith((".so", ".pyd", ".pyx"))),
    ]
    warnings = sorted(found, key=_place)
    module = pack(minify(code) if manifest.obfuscate else code)
    asset_sha256 = {path: _sha256(file) for path, file in assets.items()}
    code_sha256 = {path: hashlib.sha256(content).hexdigest() for path, content in code.items()}
    return BuiltPackage(
        manifest=manifest,
        source_sha256=source_hash(asset_sha256 | code_sha256),
        module=module,
        module_sha256=hashlib.sha256(module).hexdigest(),
        assets=assets,
        asset_sha256=asset_sha256,
        warnings=warnings,
    )


def source_hash(files: Mapping[str, str]) -> str:
    """One hash over an algorithm folder, the same wherever it is computed.

    Args:
        files: SHA-256 of each file by its path in the folder.
    """
    lines = (f"{sha256}  {path}\n" for path, sha256 in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def store_package(store: ObjectStore, built: BuiltPackage) -> AlgorithmVersion:
    """Store the module archive and the assets, as far as the store lacks them.

    Returns:
        The record to publish; it is not stored by this.
    """
    if not exists(store, module_key(built.module_sha256)):
        store.put(module_key(built.module_sha256), built.module)
    for path, sha256 in built.asset_sha256.items():
        if not exists(store, asset_key(sha256)):
            with built.assets[path].open("rb") as file:
                store.put(asset_key(sha256), file)
    return AlgorithmVersion(
        manifest=built.manifest,
        source_sha256=built.source_sha256,
        module_sha256=built.module_sha256,
        assets=built.asset_sha256,
        warnings=built.warnings,
    )


def _read_manifest(
    folder: Path, file: Path, tags: Mapping[str, Collection[str]], base: type[BaseRunner] | None
) -> tuple[Manifest, list[str]]:
    try:
        # An editor's byte order mark is no TOML.
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_folder(folder, f"is no UTF-8 text: {error}") from error
    return parse_manifest(text, tags=tags, base=base)


def _no_folder(folder: Path, fault: str, left_out: Collection[str] = ()) -> InvalidPackageError:
    """The error of a folder whose `pyproject.toml` cannot be read; what was left out of the folder may be the cause."""
    problems = [Problem("pyproject.toml", fault), *(Problem("left out", text) for text in left_out)]
    return InvalidPackageError(f"{folder} is no algorithm folder.", problems=problems)


def _place(warning: str) -> tuple[str, int]:
    """File and line that a warning begins with; all others come first, in their order."""
    match = re.match(r"(\S+\.py):(\d+): ", warning)
    return (match[1], int(match[2])) if match else ("", 0)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
