"""Datasets in an object store: added, described, read in full or in part, removed."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from t3d_server.datasets import formats, hdf5
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import (
    DatasetNotFoundError,
    InvalidDatasetError,
    InvalidRequestError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from t3d_server.storage.memory import MemoryObjectStore
from t3d_server.storage.s3 import S3ObjectStore

IMAGE = np.arange(5 * 300 * 400, dtype=np.uint16).reshape(5, 300, 400)


class CountingStore(MemoryObjectStore):
    """Counts the bytes that are read."""

    read_bytes = 0

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        return self._counted(super().get(key, offset=offset, length=length))

    def _counted(self, chunks: Iterator[bytes]) -> Generator[bytes]:
        for chunk in chunks:
            self.read_bytes += len(chunk)
            yield chunk


class FailingStore(MemoryObjectStore):
    """Takes nothing."""

    def put(self, key: str, data: object, *, if_absent: bool = False) -> None:
        raise StoreUnavailableError("the store is away")


@pytest.fixture
def objects() -> CountingStore:
    return CountingStore()


@pytest.fixture
def datasets(objects: CountingStore, tmp_path: Path) -> Iterator[DatasetStore]:
    scratch = tmp_path / "scratch"
    yield DatasetStore(objects, scratch=scratch, max_dataset_bytes=10_000_000)
    assert not scratch.exists() or not any(scratch.iterdir()), "temporary files are left"


def test_what_is_added_is_read(datasets: DatasetStore) -> None:
    info = datasets.add({"image": IMAGE, "spacing": (2, 1, 1), "note": "hi"})
    assert datasets.info(info.id) == info
    assert info.arrays["image"].shape == IMAGE.shape
    assert (info.axes, info.spacing, info.spacing_unit, info.values) == ("ZYX", (2, 1, 1), "um", {"note": "hi"})
    assert info.size_bytes == datasets.size(info.id) == len(b"".join(datasets.open(info.id)))
    read = datasets.read(info.id)
    np.testing.assert_array_equal(read["image"], IMAGE)
    assert datasets.read(info.id, ["note", "mask"]) == {"note": "hi", "mask": None}


def test_an_upload_keeps_the_options_of_its_sender(datasets: DatasetStore, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    info = datasets.add_upload(tmp_path / "a.npy", formats.NPY, spacing=(3, 1, 1), spacing_unit="nm")
    assert (info.axes, info.spacing, info.spacing_unit) == ("ZYX", (3, 1, 1), "nm")
    hdf5.write(tmp_path / "a.h5", {"image": IMAGE[:3]})
    assert datasets.add_upload(tmp_path / "a.h5", formats.HDF5).axes == "CYX"
    assert datasets.add_upload(tmp_path / "a.h5", formats.HDF5, axes="ZYX").axes == "ZYX"


def test_a_range_of_the_file_is_streamed(datasets: DatasetStore) -> None:
    info = datasets.add({"image": IMAGE})
    content = b"".join(datasets.open(info.id))
    assert b"".join(datasets.open(info.id, 1000, 500)) == content[1000:1500]
    assert b"".join(datasets.open(info.id, 1000)) == content[1000:]


def test_describing_reads_little_and_only_once(datasets: DatasetStore, objects: CountingStore) -> None:
    info = datasets.add({"image": IMAGE, "note": "hi"})
    datasets.info(info.id)
    first = objects.read_bytes
    assert 0 < first <= 3 * 64 * 1024
    datasets.info(info.id)
    assert objects.read_bytes == first


def test_an_array_leaves_as_npy_without_the_rest_of_the_file(datasets: DatasetStore, objects: CountingStore) -> None:
    info = datasets.add({"image": IMAGE, "other": IMAGE, "flags": np.array([True, False])})
    datasets.info(info.id)
    objects.read_bytes = 0
    np.testing.assert_array_equal(
        np.load(io.BytesIO(b"".join(datasets.open_array(info.id, "other", formats.NPY)[1]))), IMAGE
    )
    assert objects.read_bytes == IMAGE.nbytes
    flags = np.load(io.BytesIO(b"".join(datasets.open_array(info.id, "flags", formats.NPY)[1])))
    assert flags.tolist() == [True, False]


def test_a_packed_array_leaves_without_being_in_memory(datasets: DatasetStore, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("image", data=np.ones((20, 300, 400), "u2"), chunks=(20, 50, 50), compression="gzip")
        file.create_dataset("flags", data=[True, False], chunks=(2,))
    dataset_id = datasets.add_upload(tmp_path / "packed.h5", formats.HDF5).id
    flags = b"".join(datasets.open_array(dataset_id, "flags", formats.NPY)[1])
    assert np.load(io.BytesIO(flags)).tolist() == [True, False]
    tracemalloc.start()
    size_bytes, chunks = datasets.open_array(dataset_id, "image", formats.TIFF)
    assert sum(map(len, chunks)) == size_bytes >= 4_800_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_an_array_leaves_as_tiff_with_its_axes_and_spacing(datasets: DatasetStore, tmp_path: Path) -> None:
    mask = (IMAGE > 9).astype(np.uint8)[:3]
    info = datasets.add({"image": IMAGE[:3], "axes": "ZYX", "mask": mask, "spacing": (2, 1, 1)})
    for name in ("image", "mask"):
        (tmp_path / "a.tif").write_bytes(b"".join(datasets.open_array(info.id, name, formats.TIFF)[1]))
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.series[0].axes == "ZYX"
            assert 'PhysicalSizeZ="2.0"' in (file.ome_metadata or "")


def test_an_array_that_is_not_there_is_told_with_those_that_are(datasets: DatasetStore) -> None:
    info = datasets.add({"image": IMAGE, "note": "hi"})
    with pytest.raises(InvalidRequestError, match="has no array 'note'; its arrays: image"):
        datasets.open_array(info.id, "note", formats.NPY)


UNKNOWN = "0199aaaa-0000-7000-8000-000000000000"


@pytest.mark.parametrize("dataset_id", [UNKNOWN, "", "../secret", "a" * 36, UNKNOWN.upper()])
def test_an_id_that_no_dataset_has_is_named(datasets: DatasetStore, dataset_id: str) -> None:
    for call in (datasets.info, datasets.size, datasets.open, datasets.read, datasets.delete):
        with pytest.raises(DatasetNotFoundError) as caught:
            call(dataset_id)
        assert repr(dataset_id) in str(caught.value)
    with pytest.raises(DatasetNotFoundError):
        datasets.open_array(dataset_id, "image", formats.NPY)


def test_a_removed_dataset_is_gone(datasets: DatasetStore) -> None:
    info = datasets.add({"image": IMAGE})
    datasets.info(info.id)
    datasets.delete(info.id)
    with pytest.raises(DatasetNotFoundError):
        datasets.info(info.id)


def test_nothing_of_a_refused_dataset_stays(datasets: DatasetStore, objects: CountingStore, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(InvalidDatasetError):
        datasets.add_upload(tmp_path / "a.h5", formats.HDF5)
    with pytest.raises(InvalidDatasetError):
        datasets.add({"image": np.zeros(3)})
    with pytest.raises(PayloadTooLargeError):
        datasets.add({"data": np.zeros(2_000_000)})
    assert not list(objects.list(""))


def test_nothing_stays_in_scratch_where_the_store_fails(tmp_path: Path) -> None:
    datasets = DatasetStore(FailingStore(), scratch=tmp_path / "scratch", max_dataset_bytes=10_000_000)
    with pytest.raises(StoreUnavailableError):
        datasets.add({"image": IMAGE})
    assert not any((tmp_path / "scratch").iterdir())


def test_a_store_works_from_several_threads_and_after_pickling(datasets: DatasetStore) -> None:
    info = datasets.add({"image": IMAGE})
    copy: DatasetStore = pickle.loads(pickle.dumps(datasets))
    assert copy.info(info.id) == info
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda index: datasets.add({"n": index}).id, range(32)))
        values = list(pool.map(lambda dataset_id: datasets.read(dataset_id)["n"], ids))
    assert values == list(range(32))


def test_datasets_live_on_s3(s3_store: S3ObjectStore, tmp_path: Path) -> None:
    datasets = DatasetStore(s3_store, scratch=tmp_path / "scratch", max_dataset_bytes=10_000_000)
    info = datasets.add({"image": IMAGE, "note": "hi"})
    datasets = pickle.loads(pickle.dumps(datasets))
    assert datasets.info(info.id) == info
    np.testing.assert_array_equal(datasets.read(info.id)["image"], IMAGE)
    array = np.load(io.BytesIO(b"".join(datasets.open_array(info.id, "image", formats.NPY)[1])))
    np.testing.assert_array_equal(array, IMAGE)
    datasets.delete(info.id)
    with pytest.raises(DatasetNotFoundError):
        datasets.read(info.id)
