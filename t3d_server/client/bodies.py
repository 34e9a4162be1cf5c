"""Bodies of uploads: arrays straight from their memory, files, folders of slices; and their progress."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from t3d_server.datasets import conventions, hdf5, slices
from t3d_server.datasets.formats import HDF5, by_suffix
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidDatasetError, InvalidInputError

BLOCK_BYTES = 1024**2

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Is called with the bytes that are sent or received, and their total, in the thread that transfers them."""


class SupportsArray(Protocol):
    """What numpy can make an array of: numpy's own, torch tensors, and those of many other libraries."""

    def __array__(self) -> Any:
        """The array."""


Data = SupportsArray | Mapping[str, Any] | str | os.PathLike[str]
"""What becomes a dataset: an array, values by key, or the path of a file or of a folder of slices."""


@dataclass(frozen=True)
class Body:
    """A file that is to be sent.

    Attributes:
        content_type: its format.
        size_bytes: how long it is.
        blocks: gives it in pieces of bytes, as often as it is called; each piece is valid until the next one.
        params: the query of the request.
    """

    content_type: str
    size_bytes: int
    blocks: Callable[[], Iterator[Any]]
    params: Mapping[str, str] = field(default_factory=dict)


class Sending:
    """A body that is being sent: a stream of known length, as `requests` takes it.

    Attributes:
        sent_bytes: how much was handed out.
        fault: the error on this side, if there was one.
    """

    def __init__(self, body: Body, on_progress: Progress | None = None) -> None:
        self._body = body
        self._on_progress = on_progress
        self.sent_bytes = 0
        self.fault: Exception | None = None

    def __len__(self) -> int:
        return self._body.size_bytes

    @property
    def complete(self) -> bool:
        """Whether the server may have received all of it."""
        return self.sent_bytes >= self._body.size_bytes

    def __iter__(self) -> Iterator[Any]:
        try:
            for block in self._body.blocks():
                self.sent_bytes += len(block)
                yield block
                if self._on_progress:
                    self._on_progress(self.sent_bytes, self._body.size_bytes)
        except Exception as error:
            self.fault = error
            raise


@contextmanager
def body_of(data: Data, key: str, layout: Mapping[str, Any]) -> Iterator[Body]:
    """The data as it is sent.

    Args:
        data: what becomes a dataset.
        key: key of an array, of an image file or of a folder.
        layout: axes, spacing and spacing_unit, as far as the user gave them.

    Raises:
        InvalidDatasetError: it is no dataset.
        UnsupportedMediaTypeError: a file of a format that is not read.
        OSError: the file cannot be read.
    """
    if isinstance(data, str | os.PathLike) and not Path(data).is_dir():
        yield of_file(Path(data), _params(key, layout))
        return
    parts: dict[str, Iterable[Array]] = {}
    if isinstance(data, str | os.PathLike):
        stack = slices.find(Path(data))
        parts[key] = stack
        values: dict[str, Any] = {key: np.broadcast_to(np.zeros((), stack.dtype), stack.shape)}
        layout = {"axes": stack.axes, **layout} if key == "image" else layout
    else:
        values = values_of(data, key)
    if "image" in values:
        values, layout = {**values, **layout}, {}
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "dataset.h5"
        holes = hdf5.lay_out(frame, values)
        filling = [(offset, array.nbytes, parts.get(name, [array])) for name, (offset, array) in holes.items()]
        yield _filled(frame, filling, _params(key, layout))


def warn_of_colour(label: str, data: Data, layout: Mapping[str, Any], shape: Sequence[int], *, stacklevel: int) -> None:
    """Warn of an image (C, Y, X) that may be a stack of slices, unless its axes are given.

    Args:
        label: how messages name it; may be empty.
        data: as for `body_of`.
        layout: as for `body_of`.
        shape: shape of the image.
        stacklevel: that of the user's call, as for `warnings.warn`.
    """
    if _axes_are_given(data, layout):
        return
    where = f"{label}: " if label else ""
    warnings.warn(
        f"{where}taken as one colour image of {shape[0]} channels; give axes='ZYX' if these are slices: "
        "`upload(..., axes='ZYX')`, {'image': stack, 'axes': 'ZYX'}, or `t3d run --axes ZYX`",
        stacklevel=stacklevel,
    )


def _axes_are_given(data: Data, layout: Mapping[str, Any]) -> bool:
    """Whether the axes of the image are given, and not only guessed from its shape."""
    if "axes" in layout:
        return True
    if isinstance(data, Mapping):
        return data.get("axes") is not None
    return isinstance(data, str | os.PathLike) and by_suffix(Path(data)).states_axes(Path(data))


def of_file(path: Path, params: Mapping[str, str] | None = None, content_type: str | None = None) -> Body:
    """A file, without changes; its format is `content_type`, else that of its extension."""
    size_bytes = path.stat().st_size  # first, so that a missing file is reported before its extension
    content_type = by_suffix(path).media_type if content_type is None else content_type

    def blocks() -> Iterator[bytes]:
        left = size_bytes
        with path.open("rb") as file:
            while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
                yield block
                left -= len(block)
        if left:
            raise InvalidDatasetError(f"{path}: the file became shorter while it was sent")

    return Body(content_type, size_bytes, blocks, params or {})


def _filled(frame: Path, filling: Iterable[tuple[int, int, Iterable[Array]]], params: Mapping[str, str]) -> Body:
    """A file with holes, and what belongs there: offset, size in bytes, and arrays that follow each other."""
    size_bytes = frame.stat().st_size
    holes = sorted(filling, key=lambda hole: hole[0])

    def blocks() -> Iterator[Any]:
        with frame.open("rb") as file:
            for offset, nbytes, arrays in holes:
                yield file.read(offset - file.tell())
                for array in arrays:
                    yield from _blocks_of(array)
                file.seek(nbytes, os.SEEK_CUR)
            yield file.read(size_bytes - file.tell())

    return Body(HDF5, size_bytes, blocks, params)


def _blocks_of(array: Array) -> Iterator[Any]:
    """An array's bytes in C order, without a copy where they lie so."""
    size = max(1, BLOCK_BYTES // array.itemsize)
    flags = ["external_loop", "buffered", "zerosize_ok"]
    blocks: Any = np.nditer(array, flags, [["readonly", "contig"]], order="C", buffersize=size)  # type: ignore[call-overload]  # numpy's stubs lack `contig`
    for block in blocks:
        yield memoryview(block.view(np.uint8))


def is_several(data: object) -> bool:
    """Whether it is a list or tuple of items, and not one item."""
    return isinstance(data, Sequence) and not isinstance(data, str | bytes)


def listed(data: T | Sequence[T]) -> Sequence[T]:
    """A list or tuple as it is, one item as a list of it."""
    return cast("Sequence[T]", data if is_several(data) else [data])


def labelled(data: T | Sequence[T], name: str) -> list[tuple[str, T]]:
    """Each item with its name in errors: its path, or its place in the list `name`; empty for a single array."""
    several = is_several(data)
    return [
        (str(each) if isinstance(each, str | os.PathLike) else f"{name}[{index}]" if several else "", each)
        for index, each in enumerate(listed(data))
    ]


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Name the input in errors that do not name it."""
    try:
        yield
    except InvalidInputError as error:
        if label in error.message:
            raise
        raise type(error)(f"{label}: {error.message}", problems=error.problems) from error


def values_of(data: SupportsArray | Mapping[str, Any], key: str = "image") -> dict[str, Any]:
    """An array, or values by key, as values by key: arrays of other libraries as numpy's.

    Raises:
        InvalidDatasetError: None, as a function that has forgotten to return gives it; or a plain number.
    """
    if data is None:
        raise InvalidDatasetError("None was given where data is expected: an array, or values by key")
    if isinstance(data, int | float | np.generic):
        raise InvalidDatasetError(
            f"{data!r} was given where data is expected: an array, or values by key. A list or tuple means several "
            "datasets: make one array of a list of numbers, as by `np.asarray(numbers)`"
        )
    given = data if isinstance(data, Mapping) else {key: data}
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    """Arrays of other libraries as numpy's; tensors, which may be on a GPU, are left to `normalise`."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "detach"):
        return value
    return np.asarray(value) if hasattr(value, "__array__") or hasattr(value, "__array_interface__") else value


def _params(key: str, layout: Mapping[str, Any]) -> dict[str, str]:
    """The query of an upload; the server checks it."""
    params = {"key": key, **layout}
    if "spacing" in layout:
        params["spacing"] = ",".join(map(str, conventions.check_spacing(layout["spacing"])))
    return params
