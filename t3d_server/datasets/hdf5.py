"""The HDF5 codec of datasets: writes values, and reads them without a copy."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.datasets.conventions import check
from t3d_server.datasets.entries import offset_of, plain_dtype, safe_datasets, stored_axes, translated, unpack, value_of
from t3d_server.datasets.values import Array, normalise
from t3d_server.errors import InvalidDatasetError, Problem

# Arrays begin on cache lines, so that they can be mapped and are aligned for any dtype; all metadata comes first, so
# that one range read gets it.
_LAYOUT = {"alignment_threshold": 1, "alignment_interval": 64, "meta_block_size": 8192}
# A mapping holds a file descriptor as long as its arrays live: what is copied in a blink is not mapped.
_MAP_FROM_BYTES = 1024**2


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write a dataset, contiguous and uncompressed.

    Args:
        path: the file to write, replacing what is there.
        values: what `values.normalise` takes. `axes` says the axes of `image`; without it they follow its shape.

    Raises:
        InvalidDatasetError: naming every key that cannot be stored or breaks a convention; nothing is written.
    """
    _write(path, values, holes=False)


def lay_out(path: Path, values: Mapping[str, Any]) -> dict[str, tuple[int, Array]]:
    """Write a dataset, but for the bytes of its arrays: for who sends them from where they are.

    Args:
        path: the file to write; it is as long as it will be, with holes.
        values: as `write`.

    Returns:
        For each array that has any bytes, by key: where in the file they belong, in C order, and the array.

    Raises:
        InvalidDatasetError: as `write`.
    """
    return _write(path, values, holes=True)


def _write(path: Path, values: Mapping[str, Any], *, holes: bool) -> dict[str, tuple[int, Array]]:
    plain = normalise(values)
    arrays = {key: value for key, value in plain.items() if isinstance(value, np.ndarray) and value.ndim}
    others = {key: value for key, value in plain.items() if key not in arrays or key == "spacing"}
    problems: list[Problem] = []
    axes, spacing = check(arrays, others, problems)
    if problems:
        raise InvalidDatasetError("the dataset cannot be stored", problems=problems)
    if axes is not None:
        plain.pop("axes", None)
    if spacing is not None:
        plain["spacing"] = np.asarray(spacing, np.float64)
    try:
        with h5py.File(path, "w", **_LAYOUT) as file:
            left = {}
            for key in sorted(plain, key=lambda name: name in arrays):
                if holes and key in arrays and arrays[key].size:
                    hole = file.create_dataset(key, arrays[key].shape, arrays[key].dtype, dcpl=_hole())
                    left[key] = hole.id.get_offset(), arrays[key]
                else:
                    file.create_dataset(key, data=plain[key])
            if axes is not None:
                file["image"].attrs["axes"] = axes
        return left
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def annotate(
    path: Path, *, axes: str | None = None, spacing: Sequence[float] | None = None, spacing_unit: str | None = None
) -> None:
    """Say axes and spacing in a file that `inspection.inspect` has passed; what is None stays as it is.

    Raises:
        InvalidDatasetError: axes without an image, or the file cannot be changed.
    """
    with translated(), h5py.File(path, "r+") as file:
        if axes is not None:
            if "image" not in file:
                raise InvalidDatasetError(f"axes {axes!r} say how `image` lies; there is {', '.join(file)}")
            file["image"].attrs["axes"] = axes.upper()
        for key, value in (("spacing", spacing), ("spacing_unit", spacing_unit)):
            if value is not None:
                file.pop(key, None)
                file[key] = value if isinstance(value, str) else np.asarray(value, np.float64)


def read(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Read a dataset.

    Large contiguous arrays are mapped, not copied: writable, and what is written to them stays in this process. The
    file may be unlinked once this returns, but not changed while the arrays live.

    Args:
        path: a file that `write` made or `inspection.inspect` passed.
        keys: what to read, one key or several; everything where empty. `axes` is there with every image.

    Returns:
        By key: native, aligned, C-ordered arrays; numbers; text; lists of text. None for a key that is not there.

    Raises:
        InvalidDatasetError: the file is damaged or no dataset.
    """
    keys = [keys] if isinstance(keys, str) else keys
    with translated(), path.open("rb") as raw, h5py.File(path, "r", locking=False) as file:
        datasets = safe_datasets(file, os.fstat(raw.fileno()).st_size)
        offsets = {name: offset_of(item) for name, item in datasets.items() if not keys or name in keys}
        values: dict[str, Any] = dict.fromkeys(keys)
        mapping: mmap.mmap | None = None
        for name, offset in offsets.items():
            item = datasets[name]
            if offset is None or item.nbytes < _MAP_FROM_BYTES:
                values[name] = value_of(item)
                continue
            if mapping is None:
                mapping = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY)
            flat = np.frombuffer(mapping, plain_dtype(item.dtype), math.prod(item.shape), offset)
            values[name] = flat.reshape(item.shape)
        if "image" in datasets and (not keys or "axes" in keys):
            said = stored_axes(datasets)
            values["axes"] = resolve_axes(datasets["image"].shape, said)
        return values


def read_array(path: Path, key: str, scratch: Path) -> Array:
    """Read one array of a dataset as `read` does, but into memory never.

    Args:
        path: the file.
        key: an array that is there, of at least one axis.
        scratch: a path where it is unpacked to if it cannot be mapped; both files may be unlinked once this returns.
    """
    with translated(), path.open("rb") as raw, h5py.File(path, "r", locking=False) as file:
        item = file[key]
        offset = offset_of(item)
        if offset is None:
            return unpack(item, scratch)
        return np.memmap(raw, plain_dtype(item.dtype), "c", offset, item.shape)


def states_axes(path: Path) -> bool:
    """Whether a file, as `read` takes it, says the axes of its image."""
    with translated(), h5py.File(path, "r", locking=False) as file:
        return stored_axes(safe_datasets(file, path.stat().st_size)) is not None


def _hole() -> Any:
    """How a dataset is created that has its place in the file at once, and no bytes there."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return plan
