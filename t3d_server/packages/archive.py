"""The module archive: a zip that is the same for the same content, and safe to unpack."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from t3d_server.errors import InvalidPackageError, PayloadTooLargeError, Problem
from t3d_server.packages.folder import check_paths

MAX_FILES = 10_000
MAX_BYTES = 256 * 1024**2
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_UNIX = 3


def pack(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a zip; equal files give equal bytes.

    Args:
        files: content of each file by its `/`-separated path.

    Raises:
        PayloadTooLargeError: `unpack` would refuse them.
    """
    _check_size(len(files), sum(map(len, files.values())), MAX_FILES, MAX_BYTES)
    buffer = io.BytesIO()
    # Stored, not deflated: what deflate gives depends on the version of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, _TIME)
            entry.create_system = _UNIX
            entry.external_attr = _MODE << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def unpack(source: BinaryIO, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
    """Unpack a zip of plain files. On errors, what was written is left to the caller.

    Args:
        source: the zip, seekable.
        folder: where to write; it exists and is empty.
        max_files: most entries.
        max_bytes: most bytes once unpacked.

    Raises:
        InvalidPackageError: it is no sound zip, or an entry is no plain file inside the folder.
        PayloadTooLargeError: it is over a limit.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            # The sizes that entries declare bind: zipfile reads no byte beyond them.
            _check_size(len(entries), sum(entry.file_size for entry in entries), max_files, max_bytes)
            problems = check_paths([entry.filename for entry in entries])
            problems += [
                Problem(ascii(entry.filename), "is not a plain file") for entry in entries if not _is_plain(entry)
            ]
            if len({entry.filename for entry in entries}) < len(entries):
                problems.append(Problem("archive", "holds a name twice"))
            if problems:
                raise InvalidPackageError("The module archive is unsafe to unpack.", problems=problems)
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))
    # zipfile says RuntimeError for encrypted entries, NotImplementedError for unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        if isinstance(error, InvalidPackageError | PayloadTooLargeError):
            raise
        raise InvalidPackageError(f"The module archive is damaged: {error}") from error


def _check_size(files: int, size_bytes: int, max_files: int, max_bytes: int) -> None:
    if files > max_files or size_bytes > max_bytes:
        raise PayloadTooLargeError(
            f"The code of an algorithm is limited to {max_files} files with {max_bytes} bytes together, but these are "
            f"{files} with {size_bytes}; keep data in files that are no .py"
        )


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return not entry.is_dir() and kind in (0, stat.S_IFREG)
