"""The npy format: one array, mapped where it lies in the file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from t3d_server.datasets.formats.base import Format
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError


def map_array(path: Path, max_bytes: int) -> Array:
    """The array of an npy file, mapped.

    Raises:
        InvalidDatasetError: a damaged file, or no plain array.
        PayloadTooLargeError: an array of more than `max_bytes`.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise InvalidDatasetError(f"npy of version {version} holds no plain array; 1.0 and 2.0 are read")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        offset, size = file.tell(), path.stat().st_size
    if dtype.hasobject:
        raise InvalidDatasetError(f"npy of dtype {dtype} holds pickled objects, which are never read; send numbers")
    expected = math.prod(shape) * dtype.itemsize
    if expected > max_bytes:
        raise PayloadTooLargeError(f"the array has {expected} bytes, more than the limit of {max_bytes}")
    if offset + expected > size or min(shape, default=0) < 0:
        raise InvalidDatasetError(f"the npy header tells of {expected} bytes, {size - offset} are there: it is cut off")
    order: Literal["F", "C"] = "F" if fortran else "C"
    if not expected:
        return np.empty(shape, dtype, order)
    return np.memmap(path, dtype, "r", offset, shape, order)


def _read(source: Path, _scratch: Path, max_bytes: int) -> dict[str, Any]:
    return {"image": map_array(source, max_bytes)}


def _write(array: Array, file: BinaryIO, _axes: str, _spacing: Sequence[float] | None, _unit: str | None) -> None:
    np.lib.format.write_array(file, array, allow_pickle=False)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


FORMAT = Format(
    "application/x-npy", (".npy",), states_axes=lambda _path: False, read=_read, write=_write, header=_header
)
