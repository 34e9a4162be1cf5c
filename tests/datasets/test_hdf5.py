"""What is written is read, without a copy and without a way back into the file."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from t3d_server.datasets import hdf5, inspection
from t3d_server.errors import InvalidDatasetError, StoreUnavailableError

LARGE = 300_000  # float64 elements: more than what is copied

dtypes = st.sampled_from(["?", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i4", ">f8"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts
values = arrays | scalars | st.lists(texts, min_size=1)
reserved = {"image", "mask", "axes", "spacing", "spacing_unit", "."}
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hdf5")


@given(st.dictionaries(keys.filter(lambda key: key not in reserved), values, max_size=6))
@settings(max_examples=100)
def test_values_come_back_as_they_were(folder: Path, written: dict[str, Any]) -> None:
    path = folder / "values.h5"
    hdf5.write(path, written)
    read = hdf5.read(path)
    assert read.keys() == written.keys()
    for key, value in written.items():
        if isinstance(value, np.ndarray):
            assert type(read[key]) is np.ndarray
            assert read[key].dtype == value.dtype.newbyteorder("=")
            assert read[key].flags.writeable
            assert read[key].flags.aligned
        assert type(read[key]) is type(value)
        np.testing.assert_equal(read[key], value)


@given(hnp.arrays(dtypes, 1), st.integers(0, 3))
@settings(max_examples=30)
def test_large_arrays_are_mapped_and_changes_stay_out_of_the_file(folder: Path, fill: Any, odd: int) -> None:
    path = folder / "large.h5"
    large = np.full((2, LARGE * 2), fill[0])
    hdf5.write(path, {"pad": np.zeros(odd, np.uint8), "large": large, "other": large[:, ::2]})
    before = path.read_bytes()
    read = hdf5.read(path)
    path.unlink()
    np.testing.assert_array_equal(read["large"], large)
    np.testing.assert_array_equal(read["other"], large[:, ::2])
    assert read["large"].flags.aligned
    assert read["large"].flags.c_contiguous
    read["large"][:] = 0
    np.testing.assert_array_equal(read["other"], large[:, ::2])
    path.write_bytes(before)
    np.testing.assert_array_equal(hdf5.read(path)["large"], large)


def test_a_change_to_a_mapped_array_does_not_reach_the_file(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"a": np.zeros(LARGE)})
    before = (tmp_path / "a.h5").read_bytes()
    hdf5.read(tmp_path / "a.h5")["a"][:] = 1
    assert (tmp_path / "a.h5").read_bytes() == before


def test_a_quarter_gigabyte_is_read_without_a_copy(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "big.h5", {"image": np.ones((128, 1024, 1024), np.uint16)})
    tracemalloc.start()
    image = hdf5.read(tmp_path / "big.h5")["image"]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10 * 1024**2
    assert image[-1, -1, -1] == 1


class Tensor:
    """What a torch tensor on a GPU looks like from outside."""

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return np.ones(3, np.float32)


def test_python_values_are_stored_by_the_conventions(tmp_path: Path) -> None:
    hdf5.write(
        tmp_path / "a.h5",
        {
            "mask": np.array([[True, False]]),
            "stack": [np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)],
            "size": (1024, 768),
            "matrix": [[1, 2], [3, 4.5]],
            "absent": None,
            "tensor": Tensor(),
            "tensors": [Tensor(), Tensor()],
            "number": np.float32(0.5),
            "names": np.array(["a", "b"]),
            "empty": [],
        },
    )
    read = hdf5.read(tmp_path / "a.h5")
    assert read["mask"].dtype == np.uint8
    assert read["stack"].shape == (2, 2, 3)
    assert read["stack"].dtype == np.uint8
    assert read["size"].tolist() == [1024, 768]
    assert read["matrix"].tolist() == [[1, 2], [3, 4.5]]
    assert "absent" not in read
    assert read["tensor"].dtype == np.float32
    assert read["tensors"].shape == (2, 3)
    assert read["number"] == 0.5
    assert read["names"] == ["a", "b"]
    assert read["empty"].shape == (0,)


def test_axes_live_with_the_image_and_are_always_told(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"image": np.zeros((3, 5, 6), np.uint8), "axes": "ZYX", "spacing": (2, 1, 1)})
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["image"].attrs["axes"] == "ZYX"
        assert "axes" not in file
    assert hdf5.read(tmp_path / "a.h5")["axes"] == "ZYX"
    assert hdf5.read(tmp_path / "a.h5", ["spacing", "axes", "mask"]).keys() == {"spacing", "axes", "mask"}
    hdf5.write(tmp_path / "a.h5", {"image": np.zeros((3, 5, 6), np.uint8)})
    assert hdf5.read(tmp_path / "a.h5")["axes"] == "CYX"


def test_a_key_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"a": 1})
    assert hdf5.read(tmp_path / "a.h5", ["a", "b", "/", "."]) == {"a": 1, "b": None, "/": None, ".": None}


def test_text_for_keys_is_one_key(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"note": "x", "n": 1})
    assert hdf5.read(tmp_path / "a.h5", "note") == {"note": "x"}


def test_every_value_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    bad: dict[Any, Any] = {
        "a/b": 1,
        "": 1,
        3: 1,
        "nested": {"a": 1},
        "ragged": [np.zeros(2), np.zeros(3)],
        "mixed": [np.zeros(2, np.uint8), np.zeros(2)],
        "ragged_lists": [[1], [1, 2]],
        "object": np.array([None]),
        "bytes": b"x",
        "complex": np.zeros(2, complex),
        "huge": 2**80,
        "nul": "a\0b",
        "surrogate": "\ud800",
        "none_inside": [1, None],
        "text_and_number": ["a", 1],
        "time": np.zeros(2, "M8[s]"),
    }
    with pytest.raises(InvalidDatasetError) as caught:
        hdf5.write(tmp_path / "a.h5", bad)
    assert [problem.key for problem in caught.value.problems] == ["'a/b'", "''", "3", *list(bad)[3:]]
    assert not any(tmp_path.iterdir())


def foreign(path: Path) -> None:
    """A file by another program: no attributes, chunks, fixed-length text, big-endian numbers."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("image", data=np.arange(600, dtype=">u2").reshape(20, 30))
        file.create_dataset(
            "packed", data=np.arange(600.0), chunks=(100,), compression="gzip", shuffle=True, fletcher32=True
        )
        file.create_dataset("lzf", data=np.arange(600.0), chunks=(100,), compression="lzf")
        file.create_dataset("fixed", data=np.bytes_("héllo".encode()))
        file.create_dataset("list", data=np.array([b"a", b"bc"]))
        file.create_dataset("filled", shape=(4, 5), dtype="f4", fillvalue=7)
        file.create_dataset("large", data=np.arange(float(LARGE)))
        file.create_dataset("nothing", data=h5py.Empty("f"))
        file.create_dataset("compact", data=h5py.special_dtype(enum=("i", {"a": 1})).type(1))
        file.create_dataset("axes", data="YX")


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
    foreign(path)
    read = hdf5.read(path)
    np.testing.assert_array_equal(read["image"], np.arange(600).reshape(20, 30))
    assert read["image"].dtype == np.dtype("=u2")
    np.testing.assert_array_equal(read["packed"], np.arange(600.0))
    np.testing.assert_array_equal(read["lzf"], np.arange(600.0))
    np.testing.assert_array_equal(read["large"], np.arange(float(LARGE)))
    assert read["fixed"] == "héllo"
    assert read["list"] == ["a", "bc"]
    assert read["filled"].tolist() == [[7] * 5] * 4
    assert "nothing" not in read


def test_a_byte_that_is_no_bool_is_read_as_true(tmp_path: Path) -> None:
    """numpy counts such arrays wrong, and writes past the end of what it indexes."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        item = file.create_dataset("flags", data=np.zeros(8, bool))
        offset = item.id.get_offset()
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[offset] = 255
    (tmp_path / "a.h5").write_bytes(content)
    assert np.count_nonzero(hdf5.read(tmp_path / "a.h5")["flags"]) == 1


def test_inspecting_tells_what_is_there_and_reads_little(tmp_path: Path) -> None:
    image = np.zeros((100, 200, 200), np.uint8)
    hdf5.write(tmp_path / "a.h5", {"image": image, "spacing": (2, 1, 1), "note": "hi", "names": ["a"], "n": 3})
    contents = inspection.inspect(tmp_path / "a.h5", max_bytes=10**8)
    assert contents.arrays["image"].shape == image.shape
    assert contents.arrays["image"].dtype == "uint8"
    assert contents.values == {"note": "hi", "names": ["a"], "n": 3}
    assert (contents.axes, contents.spacing, contents.spacing_unit) == ("ZYX", (2.0, 1.0, 1.0), "um")

    class Counting(io.FileIO):
        count = 0

        def readinto(self, buffer: Any) -> int:
            type(self).count += len(buffer)
            return super().readinto(buffer) or 0

    with Counting(tmp_path / "a.h5") as raw, io.BufferedReader(raw, 65536) as file:
        assert inspection.inspect(file, max_bytes=10**8) == contents
    assert Counting.count <= 4 * 65536


def test_an_error_of_the_file_object_passes_through(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"a": 1})

    class Failing(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            raise StoreUnavailableError("gone")

    with Failing(tmp_path / "a.h5") as raw, io.BufferedReader(raw) as file, pytest.raises(StoreUnavailableError):
        inspection.inspect(file, max_bytes=10**8)
