"""An author's folder: which files belong to it, and how it is put together again from blobs."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from t3d_server.errors import (
    InvalidPackageError,
    InvalidRequestError,
    MissingBlobsError,
    ObjectNotFoundError,
    PayloadTooLargeError,
    Problem,
)
from t3d_server.packages.wording import did_you_mean
from t3d_server.storage.base import ObjectStat, ObjectStore
from t3d_server.storage.keys import asset_key, blob_key

MAX_FILES = 100_000
MAX_BYTES = 32 * 1024**3
_TRANSFERS = 8
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 1024
# Control characters, bytes that are no UTF-8, backslashes, drive letters.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\]|^[A-Za-z]:")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Left out without a word: everyone has them, and nobody means them. The last ones are backups of editors.
_DROPPINGS = re.compile(
    r"__pycache__|.*\.pyc|\.(git.*|hg|svn|venv|idea|vscode|DS_Store|ipynb_checkpoints|.*_cache|env|python-version)"
    r"|.*~|#.*#|\.#.*|\..*\.sw.|.*___jb_(tmp|old|bak)___"
)
_RESULTS = "t3d-output"
_TELLS_OF_THE_FOLDER = re.compile(
    r"pyproject\.toml|requirements.*\.txt|(readme|changelog|changes|contributing|citation|licen[sc]e|notice)(\..*)?",
    re.I,
)


def scan(folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> tuple[dict[str, Path], list[str]]:
    """Find the files of an algorithm folder.

    Left out are caches and compiled files (`__pycache__`, `*.pyc`), backups of editors, virtual environments, the
    folder's own `tests` where pytest finds tests in it, results of `t3d debug` (`t3d-output`), entries whose name
    begins with a dot, and links; the latter two with a warning.

    Args:
        folder: the author's folder.
        max_files: most files it may hold.
        max_bytes: most bytes they may have together.

    Returns:
        Each file by its `/`-separated path in the folder, sorted; and the warnings.

    Raises:
        InvalidPackageError: it is no folder, has no `Runner.py`, or holds names that cannot be stored.
        PayloadTooLargeError: it is over a limit.
    """
    if not folder.is_dir():
        raise InvalidPackageError(f"{folder} is no folder.")
    warnings: list[str] = []
    files: dict[str, Path] = {}
    size_bytes = 0
    for path in _walk(folder, folder, warnings):
        files[path.relative_to(folder).as_posix()] = path
        size_bytes += path.stat().st_size
        if len(files) > max_files or size_bytes > max_bytes:
            raise PayloadTooLargeError(
                f"{folder} is over the limit of {max_files} files with {max_bytes} bytes together; "
                "keep data that the algorithm does not need elsewhere."
            )
    if "Runner.py" not in files:
        hint = did_you_mean("Runner.py", [name for name in files if "/" not in name])
        problems = [Problem("Runner.py", f"is missing{hint}"), *(Problem("left out", text) for text in warnings)]
        advice = "Such a folder has a Runner.py and a pyproject.toml; `t3d new NAME` makes one that works."
        raise InvalidPackageError(f"{folder} is no algorithm folder. {advice}", problems=problems)
    if problems := check_paths(files):
        raise InvalidPackageError(f"{folder} holds names that cannot be stored.", problems=problems)
    return dict(sorted(files.items())), warnings


def meant_to_open(assets: Iterable[str]) -> list[str]:
    """Those of a folder's assets that are there for its code; the others, such as a README, can be opened all the same.

    Args:
        assets: `/`-separated paths in the folder.
    """
    return [path for path in assets if not _TELLS_OF_THE_FOLDER.fullmatch(path)]


def is_part(folder: Path, path: Path) -> bool:
    """Whether a file belongs to an algorithm folder, going by names alone: it may be gone.

    Args:
        folder: the author's folder.
        path: a path inside of it.
    """
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith(".") or _DROPPINGS.fullmatch(part) for part in parts)
    return not hidden and not any(_is_set_aside(parent, folder) for parent in (path, *path.parents[: len(parts) - 1]))


def check_paths(paths: Collection[str]) -> list[Problem]:
    """What keeps these paths from being files of one folder, on every operating system.

    Args:
        paths: `/`-separated paths that ought to be relative to the folder.

    Returns:
        A problem for each path that leaves the folder, cannot be a file name, or is taken by another one.
    """
    problems = []
    taken: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        if _UNSAFE.search(path):
            problems.append(Problem(ascii(path), "holds a backslash, a drive letter or characters that are no text"))
        elif any(part in ("", ".", "..") for part in parts):
            problems.append(Problem(ascii(path), "is not a plain path inside the folder"))
        elif any(len(part.encode()) > _LONGEST_NAME_BYTES for part in parts):
            problems.append(Problem(ascii(path), f"has a name of more than {_LONGEST_NAME_BYTES} bytes"))
        elif len(path.encode()) > _LONGEST_PATH_BYTES:
            problems.append(Problem(ascii(path), f"is longer than {_LONGEST_PATH_BYTES} bytes"))
        elif (other := taken.setdefault(_folded(path), path)) != path:
            problems.append(Problem(ascii(path), f"is the same file as {other!r} where case is ignored"))
    for path in paths:
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            other = taken.get(_folded("/".join(parents[:depth])), "")
            if other:
                problems.append(Problem(ascii(path), f"lies below {other!r}, which is a file"))
    return problems


def materialise(
    store: ObjectStore,
    files: Mapping[str, str],
    folder: Path,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Put a folder together from its stored files. On errors, what was written is left to the caller.

    Args:
        store: holds the files; see `find_file`.
        files: SHA-256 of each file by its path in the folder.
        folder: where to write; empty or not there yet.
        max_files: most files.
        max_bytes: most bytes they may have together, checked before anything is downloaded.

    Raises:
        InvalidPackageError: a path is unsafe, or a stored file holds other content than its name says.
        MissingBlobsError: files are not stored; it lists every one.
        PayloadTooLargeError: it is over a limit.
    """
    if len(files) > max_files:
        raise PayloadTooLargeError(f"{len(files)} files are over the limit of {max_files}.")
    problems = check_paths(files)
    problems += [
        Problem(ascii(path), f"{sha256!r} is no SHA-256 in lower-case hexadecimal digits")
        for path, sha256 in files.items()
        if not _SHA256.fullmatch(sha256)
    ]
    if problems:
        raise InvalidPackageError("These files cannot be an algorithm folder.", problems=problems)

    with ThreadPoolExecutor(_TRANSFERS) as pool:
        hashes = sorted(set(files.values()))
        found = dict(zip(hashes, pool.map(lambda sha256: find_file(store, sha256), hashes), strict=True))
        stored = {path: stat for path, sha256 in files.items() if (stat := found[sha256]) is not None}
        missing = [
            Problem(path, f"{blob_key(sha256)} is not stored") for path, sha256 in files.items() if path not in stored
        ]
        if missing:
            raise MissingBlobsError("Upload the missing blobs, then publish again.", problems=missing)
        size_bytes = sum(stat.size_bytes for stat in stored.values())
        if size_bytes > max_bytes:
            raise PayloadTooLargeError(f"{size_bytes} bytes of files are over the limit of {max_bytes}.")
        folder.mkdir(parents=True, exist_ok=True)
        list(pool.map(lambda path: _write(store, stored[path].key, files[path], folder / path), files))


def store_blob(store: ObjectStore, sha256: str, source: Path) -> None:
    """Store a file that is to be published.

    Args:
        store: where to.
        sha256: its hash.
        source: the file.

    Raises:
        InvalidRequestError: the file has another hash, or that is none.
    """
    _require_sha256(sha256)
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise InvalidRequestError(f"The body has the SHA-256 {found}, not {sha256}: send it again.")
        file.seek(0)
        store.put(blob_key(sha256), file)


def find_file(store: ObjectStore, sha256: str) -> ObjectStat | None:
    """Where the content of an author's file is stored: as a blob, or as an asset of a version; None if nowhere.

    Raises:
        InvalidRequestError: that is no hash.
    """
    _require_sha256(sha256)
    for key in (blob_key(sha256), asset_key(sha256)):
        try:
            return store.stat(key)
        except ObjectNotFoundError:
            continue
    return None


def delete_blobs(store: ObjectStore, files: Mapping[str, str]) -> None:
    """Delete what was uploaded of a folder: it is unminified source, or an asset by now.

    Args:
        store: holds the blobs.
        files: SHA-256 of each file by its path in the folder, as the client gave them.
    """
    for sha256 in set(files.values()):
        if _SHA256.fullmatch(sha256):
            store.delete(blob_key(sha256))


def _require_sha256(sha256: str) -> None:
    if not _SHA256.fullmatch(sha256):
        raise InvalidRequestError(f"{sha256!r:.80} is no SHA-256 in lower-case hexadecimal digits.")


def _write(store: ObjectStore, key: str, sha256: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for chunk in store.get(key):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise InvalidPackageError(f"{key} holds other content than its name says; upload it again.")


def _walk(folder: Path, root: Path, warnings: list[str]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            if _DROPPINGS.fullmatch(entry.name):
                continue
            if entry.is_symlink():
                warnings.append(f"{name}: a link, left out; put the file itself there")
            elif entry.name.startswith("."):
                warnings.append(f"{name}: left out, as its name begins with a dot")
            elif entry.is_dir():
                if not _is_set_aside(path, root):
                    yield from _walk(path, root, warnings)
            elif entry.is_file():
                yield path
            else:
                warnings.append(f"{name}: not a plain file, left out")


def _is_set_aside(path: Path, root: Path) -> bool:
    """Whether a folder is a virtual environment, or holds the author's tests or results."""
    if path.parent == root and path.name in (_RESULTS, "tests"):
        return path.name == _RESULTS or any(any(path.rglob(name)) for name in ("test_*.py", "*_test.py"))
    return (path / "pyvenv.cfg").exists()


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path.casefold())
