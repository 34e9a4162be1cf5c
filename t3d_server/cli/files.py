"""Files of the user: the inputs of a command, and its results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from t3d_server.datasets import formats, hdf5
from t3d_server.datasets.conventions import layout_of
from t3d_server.errors import InvalidRequestError, Problem, T3dError, UnsupportedMediaTypeError
from t3d_server.ids import is_id

_SUFFIXES = {formats.TIFF: ".tif", formats.PNG: ".png"}
_LARGEST_IN_JSON = 16


def check_inputs(inputs: Sequence[str], *, ids: bool, folders: bool = False) -> None:
    """Check what a command was given before any of it is read.

    Args:
        inputs: paths of files or of folders of slices, or ids of datasets.
        ids: whether ids are allowed.
        folders: whether folders are.

    Raises:
        InvalidRequestError: with every input that is none of them.
        UnsupportedMediaTypeError: a file of a format that is not read.
    """
    faults = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            faults += [] if folders else [f"{item}: a folder, not a file"]
        elif path.exists():
            formats.guess_content_type(path)
        elif not ids or "/" in item or path.suffix:
            faults.append(f"{item}: no such file")
        elif not is_id(item):
            faults.append(f"{item}: neither a file nor a dataset id")
    if faults:
        raise InvalidRequestError("; ".join(faults))


def result_stems(inputs: Sequence[str], name: str, count: int) -> list[str]:
    """How the names of result files begin: as the inputs, where there is one result for each; else as the algorithm."""
    stems = [Path(item).resolve().name if Path(item).is_dir() else Path(item).stem for item in inputs]
    if len(stems) == count == len(set(stems)):
        return [f"{stem}-{name}" for stem in stems]
    return [f"{name}-{index}" for index in range(count)]


def kind_of(item: str) -> str:
    """Content type that results are to have: that of the input file, TIFF for a folder, "" for a dataset's id."""
    if Path(item).is_dir():
        return formats.TIFF
    return formats.guess_content_type(Path(item)) if Path(item).exists() else ""


@contextmanager
def naming(files: Mapping[str, str]) -> Iterator[None]:
    """Errors tell of files, which the user knows, in place of ids.

    Args:
        files: the file that each dataset was made of, by id.
    """
    try:
        yield
    except T3dError as error:

        def named(text: str) -> str:
            for dataset_id, file in files.items():
                text = text.replace(dataset_id, file)
            return text

        problems = [Problem(named(problem.key), named(problem.message)) for problem in error.problems]
        traceback = named(error.traceback) if error.traceback else None
        raise type(error)(named(error.message), problems=problems, traceback=traceback) from error


def save_dataset(values: Mapping[str, Any], folder: Path, stem: str, content_type: str) -> list[Path]:
    """Write a dataset as files of the kind that the input had; each appears when it is whole.

    HDF5 and npz inputs give one HDF5 file. Otherwise `image` and `mask` become pictures of the input's kind (TIFF where
    PNG and JPEG cannot hold them), other arrays npy, and small values and short lists of numbers one JSON file.

    Args:
        values: the dataset.
        folder: where to write; made if it is missing.
        stem: how the file names begin.
        content_type: that of the input.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if content_type in (formats.HDF5, formats.NPZ):
        path = folder / f"{stem}.h5"
        with _appearing(path) as part:
            hdf5.write(part, values)
        return [path]
    files = []
    small = {}
    for key, value in values.items():
        if not isinstance(value, np.ndarray):
            small[key] = value
        elif value.ndim == 1 and value.size <= _LARGEST_IN_JSON:
            small[key] = value.tolist()
        else:
            files.append(_save_array(key, value, values, folder / f"{stem}-{key}", content_type))
    small = {key: value for key, value in small.items() if value is not None}
    if small:
        path = folder / f"{stem}.json"
        with _appearing(path) as part:
            part.write_text(json.dumps(small, indent=2) + "\n", "utf-8")
        files.append(path)
    return files


def _save_array(
    key: str, array: np.ndarray[Any, Any], values: Mapping[str, Any], base: Path, content_type: str
) -> Path:
    pictures = {formats.TIFF: [formats.TIFF], formats.NPY: []}.get(content_type, [formats.PNG, formats.TIFF])
    axes, spacing = layout_of(key, array.ndim, values.get("axes"), values.get("spacing"))
    unit = values.get("spacing_unit")
    for kind in pictures if key in ("image", "mask") else []:
        path = base.with_name(base.name + _SUFFIXES[kind])
        try:
            with _appearing(path) as part, part.open("wb") as file:
                formats.encode_array(array, kind, file, axes=axes, spacing=spacing, spacing_unit=unit)
        except UnsupportedMediaTypeError:
            continue
        return path
    path = base.with_name(f"{base.name}.npy")
    with _appearing(path) as part, part.open("wb") as file:
        formats.encode_array(array, formats.NPY, file)
    return path


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A path to write to, whose content then is at `path`; nothing is left of it where writing fails."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
