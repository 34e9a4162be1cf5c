"""What a client does with datasets: store, fetch, describe, remove."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, overload

import numpy as np

from t3d_server.client.bodies import (
    BLOCK_BYTES,
    Data,
    Progress,
    body_of,
    is_several,
    labelled,
    listed,
    naming,
    warn_of_colour,
)
from t3d_server.client.connection import Connection, path_of
from t3d_server.datasets import hdf5
from t3d_server.datasets.formats import HDF5, NPY
from t3d_server.datasets.values import Array
from t3d_server.errors import InvalidRequestError, T3dError
from t3d_server.ids import canonical, new_id
from t3d_server.models import DatasetInfo

Dataset = DatasetInfo | str
"""A dataset that is stored, by its info or id."""


class UploadOptions(TypedDict, total=False):
    """See `Datasets.upload`."""

    axes: str | None
    spacing: Sequence[float] | None
    spacing_unit: str | None
    key: str
    on_progress: Progress | None


class Datasets(Connection):
    """Calls about datasets."""

    @overload
    def upload(self, data: Data, **options: Unpack[UploadOptions]) -> DatasetInfo: ...  # type: ignore[overload-overlap]  # text is a sequence of text, but comes first

    @overload
    def upload(self, data: Sequence[Data], **options: Unpack[UploadOptions]) -> list[DatasetInfo]: ...

    def upload(
        self,
        data: Data | Sequence[Data],
        *,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        spacing_unit: str | None = None,
        key: str = "image",
        on_progress: Progress | None = None,
    ) -> DatasetInfo | list[DatasetInfo]:
        """Store a dataset, or several.

        It is sent once: if the connection breaks off after the last byte, it is not known whether it was stored, and
        the call fails. Uploading it again then leaves at worst a dataset that nobody uses.

        An image without given axes whose first axis is taken as colour (CYX) causes a `UserWarning`: it may be a stack
        of 3 or 4 slices.

        Args:
            data: an array, of numpy or what numpy can make one of, sent from its memory without a copy; values by key
                (arrays, numbers, text); the path of a HDF5, npy, npz, TIFF, PNG or JPEG file; or that of a folder of
                slices, which becomes one stack (Z, Y, X) or (Z, Y, X, 3 or 4). Slices are TIFF, PNG, JPEG or npy files
                of one format, shape and dtype; slice2 comes before slice10; one at a time is in memory. A list or
                tuple of all these: each becomes a dataset, or none does.
            axes: axes of `image` ("YX", "YXC", "CYX", "ZYX", "ZYXC"); else what the file states or the shape suggests.
            spacing: distance of samples for each spatial axis, in axis order.
            spacing_unit: unit of `spacing`; "um" by default.
            key: key of an array, or of the array in an npy or image file, or of a folder's stack.
            on_progress: is called with the bytes that are sent and their number in total (of all of a list), in the
                thread that sends them. What it raises ends the upload.

        Returns:
            What was stored, with its id; for a list or tuple, a list.

        Raises:
            InvalidDatasetError: it is no dataset; lists every key or slice that is wrong.
            UnsupportedMediaTypeError: a file of a format that is not read.
            PayloadTooLargeError: more than the server takes.
            FileNotFoundError: there is no such file.
        """
        given = {"axes": axes, "spacing": spacing, "spacing_unit": spacing_unit}
        given = {name: value for name, value in given.items() if value is not None}
        infos = self._uploaded(labelled(data, "data"), key, given, on_progress, stacklevel=3)
        return infos if is_several(data) else infos[0]

    @overload
    def download(  # type: ignore[overload-overlap]  # as `upload`
        self, dataset: Dataset, path: str | os.PathLike[str] | None = None, *, on_progress: Progress | None = None
    ) -> Path: ...

    @overload
    def download(
        self,
        dataset: Sequence[Dataset],
        path: str | os.PathLike[str] | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> list[Path]: ...

    def download(
        self,
        dataset: Dataset | Sequence[Dataset],
        path: str | os.PathLike[str] | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> Path | list[Path]:
        """Save datasets as HDF5 files.

        Args:
            dataset: the dataset, by its info or id; or a list of those.
            path: the file, or the folder to put it in as `<id>.h5`; the current folder where None. For a list, the
                folder. Folders that are missing are made.
            on_progress: is called with the bytes that are there and their number in total, for each dataset anew.

        Returns:
            The file; for a list, a list. Each appears when it is whole.

        Raises:
            DatasetNotFoundError: there is no such dataset.
        """
        ids = ids_of(dataset)
        if is_several(dataset):
            folder = Path("." if path is None else path)
            folder.mkdir(parents=True, exist_ok=True)
            return [self._downloaded(each, folder / f"{each}.h5", on_progress) for each in ids]
        target = Path("." if path is None else path)
        if target.is_dir():
            target /= f"{ids[0]}.h5"
        target.parent.mkdir(parents=True, exist_ok=True)
        return self._downloaded(ids[0], target, on_progress)

    @overload
    def fetch(  # type: ignore[overload-overlap]  # as `upload`
        self, dataset: Dataset, keys: Sequence[str] = (), *, on_progress: Progress | None = None
    ) -> dict[str, Any]: ...

    @overload
    def fetch(
        self, dataset: Sequence[Dataset], keys: Sequence[str] = (), *, on_progress: Progress | None = None
    ) -> list[dict[str, Any]]: ...

    def fetch(
        self, dataset: Dataset | Sequence[Dataset], keys: Sequence[str] = (), *, on_progress: Progress | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Values of datasets.

        Args:
            dataset: the dataset, by its info or id; or a list of those.
            keys: what to read, one key or several; everything where empty.
            on_progress: as `download`.

        Returns:
            Values by key: arrays (large ones are mapped from a temporary file; all may be changed in place), numbers,
            text. For a list, a list.

        Raises:
            DatasetNotFoundError: there is no such dataset.
            InvalidRequestError: a key is not there; it names those there are.
        """
        values = [self._fetched(each, keys, on_progress) for each in ids_of(dataset)]
        return values if is_several(dataset) else values[0]

    def fetch_array(self, dataset: Dataset, name: str = "image") -> Array:
        """One array of a dataset, without the others; mapped from a temporary file where it is large.

        Raises:
            DatasetNotFoundError: there is no such dataset.
            InvalidRequestError: there is no such array; it names those there are.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "array.npy"
            with path.open("xb") as file:
                self._http.receive(path_of("datasets", id_of(dataset)), file, NPY, params={"array": name})
            large = path.stat().st_size >= BLOCK_BYTES
            return np.asarray(np.load(path, "c" if large else None, allow_pickle=False))

    def info(self, dataset: Dataset) -> DatasetInfo:
        """Keys, shapes, dtypes, axes, spacing and size of a dataset."""
        return self._ask(DatasetInfo, "GET", path_of("datasets", id_of(dataset), "info"))

    def delete(self, dataset: Dataset) -> None:
        """Remove a dataset for good."""
        self._http.call("DELETE", path_of("datasets", id_of(dataset)))

    def _uploaded(
        self,
        items: Sequence[tuple[str, Data]],
        key: str,
        layout: Mapping[str, Any],
        on_progress: Progress | None,
        *,
        stacklevel: int,
    ) -> list[DatasetInfo]:
        """Upload data with its labels, all of it or nothing; `stacklevel` is that of the user's call."""
        infos: list[DatasetInfo] = []
        with ExitStack() as stack, discarding(self, infos, BaseException):
            bodies = []
            for label, each in items:
                with naming(label):
                    bodies.append(stack.enter_context(body_of(each, key, layout)))
            total_bytes = sum(body.size_bytes for body in bodies)
            done_bytes = 0
            for (label, _), body in zip(items, bodies, strict=True):
                on_part = _part_of(on_progress, done_bytes, total_bytes)
                with naming(label):
                    infos.append(
                        self._ask(
                            DatasetInfo, "POST", "/v1/datasets", params=body.params, body=body, on_progress=on_part
                        )
                    )
                done_bytes += body.size_bytes
            for (label, each), info in zip(items, infos, strict=True):
                if info.axes == "CYX":
                    warn_of_colour(label, each, layout, info.arrays["image"].shape, stacklevel=stacklevel + 1)
        return infos

    def _downloaded(self, dataset_id: str, target: Path, on_progress: Progress | None) -> Path:
        part = target.with_name(f".{target.name}.{new_id()}")
        try:
            with part.open("xb") as file:
                self._http.receive(path_of("datasets", dataset_id), file, HDF5, on_progress=on_progress)
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _fetched(self, dataset_id: str, keys: Sequence[str], on_progress: Progress | None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = self._downloaded(dataset_id, Path(folder) / "dataset.h5", on_progress)
            values = hdf5.read(path, keys)
            missing = ", ".join(repr(key) for key, value in values.items() if value is None)
            if missing:
                there = ", ".join(hdf5.read(path))
                raise InvalidRequestError(f"dataset {dataset_id} has no {missing}; its keys: {there}")
            return values


@contextmanager
def discarding(client: Datasets, infos: Sequence[DatasetInfo], *errors: type[BaseException]) -> Iterator[None]:
    """Remove these datasets again if one of the errors is raised."""
    try:
        yield
    except errors:
        for info in infos:
            with suppress(T3dError):
                client.delete(info)
        raise


def id_of(dataset: Dataset) -> str:
    """Id of a dataset, in its canonical spelling.

    Raises:
        InvalidRequestError: it is neither an info nor an id.
    """
    if isinstance(dataset, DatasetInfo):
        return dataset.id
    if isinstance(dataset, str):
        return canonical(dataset)
    kind = type(dataset).__name__
    raise InvalidRequestError(f"a dataset is named by its id or info, several by a list or tuple of those, not {kind}")


def ids_of(dataset: Dataset | Sequence[Dataset]) -> list[str]:
    """Ids of one dataset, or of several; as `id_of`."""
    return [id_of(each) for each in cast("Sequence[Dataset]", listed(dataset))]


def _part_of(on_progress: Progress | None, done_bytes: int, total_bytes: int) -> Progress | None:
    """Progress of one part of a transfer, passed on as progress of the whole."""
    return None if on_progress is None else lambda sent_bytes, _: on_progress(done_bytes + sent_bytes, total_bytes)
