"""Writes the results of runs as files, for other programs and to look at."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.datasets import conversion, formats, hdf5
from t3d_server.datasets.conventions import layout_of
from t3d_server.datasets.formats.base import Format
from t3d_server.errors import InvalidRequestError, Problem, UnsupportedMediaTypeError
from t3d_server.views import view_labels

_LARGEST_IN_JSON = 16
_ONE_FOR_EACH = ("Image2Image", "Image2Segmentation", "Image2Embedding")
"""Types with one result for each input; with other types, equal numbers of both mean nothing."""


def save_results(
    results: Sequence[Mapping[str, Any]],
    inputs: Sequence[str],
    name: str,
    folder: Path,
    *,
    algorithm_type: str | None,
    force: bool,
) -> dict[Path, str]:
    """Write the results of a run as files, all or none; named after the inputs if there is one result for each.

    Args:
        results: the datasets.
        inputs: the inputs of the run: paths, or ids of datasets; may be empty.
        name: the algorithm; results that no input names are numbered.
        folder: where to write; made if it is missing.
        algorithm_type: that of the algorithm; None where it is not known.
        force: replace files that are there.

    Returns:
        The files, each with a description; "" if it needs none.

    Raises:
        InvalidRequestError: files of these names are there.
    """
    stems = _stems_of(inputs)
    belong = algorithm_type in _ONE_FOR_EACH or len(inputs) == 1
    if belong and len(stems) == len(results) == len(set(stems)):
        targets = [(f"{stem}-{name}", _kind_of(item)) for stem, item in zip(stems, inputs, strict=True)]
    else:
        kind = _kind_of(inputs[0]) if inputs else formats.PNG
        targets = [(f"{name}-{index}", kind) for index in range(len(results))]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".t3d-") as unfinished:
        saved: dict[Path, str] = {}
        for values, (stem, kind) in zip(results, targets, strict=True):
            saved |= save_dataset(values, Path(unfinished), stem, kind)
        if not force:
            _require_free(folder / path.name for path in saved if (folder / path.name).exists())
        return {path.replace(folder / path.name): what for path, what in saved.items()}


def check_output(inputs: Sequence[str], name: str, folder: Path, *, force: bool) -> None:
    """Refuse before a run what `save_results` would refuse after it, as far as that is known.

    Raises:
        InvalidRequestError: the folder is a file, or has results of this algorithm that are named after these inputs.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidRequestError(f"{folder} is a file; -o names a folder")
    if folder.exists() and not force:
        stems = "|".join(map(re.escape, _stems_of(inputs)))
        written = "|".join(re.escape(row.suffixes[0]) for row in formats.FORMATS if row.write)
        result = re.compile(rf"({stems})-{re.escape(name)}(\.h5|\.json|-[^-]+({written}|-picture\.png))")
        _require_free(sorted(path for path in folder.iterdir() if result.fullmatch(path.name)))


def remove_last(saved: Iterable[Path], record: Path) -> None:
    """Remove files of the last time that were not written again, unless they were changed since.

    Args:
        saved: the files of this time, beside the record.
        record: keeps what was written, and when, until the next time.
    """
    written = {path.name: path.stat().st_mtime_ns for path in saved}
    last: dict[str, int] = {}
    with suppress(OSError, ValueError):  # the first time, or it was interrupted
        last = json.loads(record.read_text("utf-8"))
    for name in last.keys() - written.keys():
        path = record.with_name(name)
        if path.is_file() and path.stat().st_mtime_ns == last[name]:
            path.unlink()
    record.write_text(json.dumps(written), "utf-8")


def _require_free(taken: Iterable[Path]) -> None:
    problems = [Problem(str(path), "is there already") for path in taken]
    if problems:
        raise InvalidRequestError(
            "nothing is replaced without --force; -o names another folder for the results", problems=problems
        )


def _stems_of(inputs: Sequence[str]) -> list[str]:
    """How the names of results begin."""
    return [Path(item).resolve().name if Path(item).is_dir() else Path(item).stem for item in inputs]


def _kind_of(item: str) -> str:
    """Content type of an input; TIFF for a folder, PNG for a dataset's id."""
    path = Path(item)
    if path.is_dir():
        return formats.TIFF
    return formats.by_suffix(path).media_type if path.exists() else formats.PNG


def save_dataset(values: Mapping[str, Any], folder: Path, stem: str, content_type: str) -> dict[Path, str]:
    """Write a dataset as files of the kind that the input had, without loss.

    HDF5 and npz inputs give one HDF5 file. Otherwise each array is a file: `image` one of the input's kind (a PNG for a
    JPEG), or TIFF where that cannot hold it; `mask` TIFF, or npy for npy, and a picture of it in colours, because
    labels are black in most viewers; others npy. One JSON file has small values, short lists of numbers, and axes and
    spacing if none of the other files has them; numbers that are not finite are the texts "nan", "inf" and "-inf".

    Args:
        values: the dataset.
        folder: where to write.
        stem: how the file names begin.
        content_type: that of the input.

    Returns:
        The files, each with a description; "" if it needs none.
    """
    source = formats.by_content_type(content_type)
    if source.holds_dataset:
        path = folder / f"{stem}.h5"
        hdf5.write(path, values)
        return {path: ""}
    files: dict[Path, str] = {}
    small: dict[str, Any] = {}
    written: set[str] = set()
    for key, value in values.items():
        if not isinstance(value, np.ndarray):
            small[key] = value
        elif value.ndim == 1 and value.size <= _LARGEST_IN_JSON:
            small[key] = value.tolist()
        else:
            base = folder / f"{stem}-{key}"
            path, keys = _save_array(key, value, values, base, source)
            files[path] = ""
            written |= keys
            if key == "mask" and value.ndim in (2, 3):
                files[path] = "labels"
                files[_save_picture(value, base)] = f"picture of the {'labels' if value.ndim == 2 else 'middle slice'}"
    small = {key: _for_json(value) for key, value in small.items() if value is not None and key not in written}
    if small:
        path = folder / f"{stem}.json"
        path.write_text(json.dumps(small, indent=2, allow_nan=False) + "\n", "utf-8")
        files[path] = ""
    return files


def _for_json(value: Any) -> Any:
    """The value, with text for numbers that JSON lacks; `float` reads it."""
    if isinstance(value, list | tuple):
        return [_for_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _save_array(
    key: str, array: np.ndarray[Any, Any], values: Mapping[str, Any], base: Path, source: Format
) -> tuple[Path, set[str]]:
    """Write an array; gives the file, and which other keys of the dataset a reader of that file knows without them."""
    axes, spacing = layout_of(key, array.ndim, values.get("axes"), values.get("spacing"))
    unit = values.get("spacing_unit")
    targets = source.written_as()
    if key == "mask":
        targets = [target for target in targets if target.keeps_layout or target is targets[-1]]
        array = _narrowed(array) if len(targets) > 1 else array
    elif key != "image":
        del targets[:-1]
    for target in targets:
        path = base.with_name(base.name + target.suffixes[0])
        try:
            with path.open("wb") as file:
                conversion.encode_array(array, target.media_type, file, axes=axes, spacing=spacing, spacing_unit=unit)
        except UnsupportedMediaTypeError:  # never of npy, the last one
            path.unlink()
            continue
        break
    keys = {"spacing", "spacing_unit"} if target.keeps_layout and spacing else set()
    if key == "image" and (target.keeps_layout or axes == resolve_axes(array.shape, None)):
        keys.add("axes")
    return path, keys


def _narrowed(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Labels of 64 bits, which no TIFF has, as int32 where they fit."""
    if mask.dtype.itemsize < 8:
        return mask
    narrow = mask.astype(np.int32)
    return narrow if np.array_equal(narrow, mask) else mask


def _save_picture(mask: np.ndarray[Any, Any], base: Path) -> Path:
    path = base.with_name(f"{base.name}-picture.png")
    with path.open("wb") as file:
        conversion.encode_array(view_labels(mask), formats.PNG, file, axes="YXC")
    return path
