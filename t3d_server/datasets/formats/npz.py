"""The npz format: npy files by key in a zip file."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

from t3d_server.datasets.conventions import MAX_KEYS
from t3d_server.datasets.formats import npy
from t3d_server.datasets.formats.base import Format
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError

_NPY_HEADER_BYTES = 16384
_ZIP_DIRECTORY_BYTES = 512 * MAX_KEYS


class _ZipFile(io.FileIO):
    """A zip file whose directory is refused where it would fill the memory: zipfile reads it at once."""

    def read(self, size: int | None = -1) -> bytes:
        """As of any file, in pieces of bounded size."""
        if size is not None and size > _ZIP_DIRECTORY_BYTES:
            raise InvalidDatasetError(
                f"the directory of the npz has {size} bytes; a dataset has at most {MAX_KEYS} keys"
            )
        return super().read(size) or b""


def _read(source: Path, scratch: Path, max_bytes: int) -> dict[str, Any]:
    """Arrays by key, each unpacked to a file and mapped."""
    values: dict[str, Any] = {}
    with _ZipFile(source) as raw, zipfile.ZipFile(raw) as archive:
        members = archive.infolist()
        if len(members) > MAX_KEYS:
            raise InvalidDatasetError(f"{len(members)} arrays; a dataset has at most {MAX_KEYS}")
        unpacked = sum(member.file_size for member in members)
        if unpacked > max_bytes + len(members) * _NPY_HEADER_BYTES:
            raise PayloadTooLargeError(f"the npz unpacks to {unpacked} bytes, more than the limit of {max_bytes}")
        for index, member in enumerate(members):
            key = member.filename.removesuffix(".npy")
            if key == member.filename or key in values:
                raise InvalidDatasetError(f"{member.filename}: an npz holds npy files, each of another name")
            # zipfile unpacks a whole block of the others at once, however much that is.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InvalidDatasetError(f"{member.filename}: only deflate is read; write it by np.savez_compressed")
            path = scratch / f"{index}.npy"
            # Never more than the stated size: zipfile stops there, whatever the stream holds.
            with archive.open(member) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1024**2)
            values[key] = npy.map_array(path, max_bytes)
    if not values:
        raise InvalidDatasetError("the npz holds no array")
    return values


def _states_axes(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return "axes.npy" in archive.namelist()


FORMAT = Format("application/x-npz", (".npz",), states_axes=_states_axes, holds_dataset=True, read=_read)
