"""Folders of slices as stacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from t3d_server.datasets import slices
from t3d_server.errors import InvalidDatasetError

SLICE = np.arange(12, dtype=np.uint8).reshape(3, 4)


def write(folder: Path, **arrays: np.ndarray) -> Path:
    """A folder of npy files."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_slices_are_in_the_order_that_a_person_expects(tmp_path: Path) -> None:
    names = ["a2", "a10", "B1", "a9", "b1", "1", "a", "a010"]
    write(tmp_path, **dict.fromkeys(names, SLICE))
    assert [path.stem for path in slices.find(tmp_path).files] == ["1", "a", "a2", "a9", "a010", "a10", "B1", "b1"]


@pytest.mark.parametrize("kind", ["tif", "png", "jpg", "npy"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3)])
def test_slices_become_one_stack(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Hidden files, notes and folders beside them do not count."""
    expected = [np.full(shape, value, np.uint8) for value in (8, 16, 24)]
    for index, array in enumerate(expected):
        path = tmp_path / f"s{index}.{kind}"
        np.save(path, array) if kind == "npy" else Image.fromarray(array).save(path)
    (tmp_path / ".hidden.npy").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "more.npy").mkdir()

    stack = slices.find(tmp_path)

    np.testing.assert_array_equal(list(stack), expected)
    assert (stack.shape, stack.dtype) == ((3, *shape), np.dtype(np.uint8))
    assert stack.axes == {2: "ZYX", 3: "ZYXC"}[len(shape)]


def test_planes_of_colour_become_pixels(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    tifffile.imwrite(tmp_path / "s.tif", array, photometric="rgb", planarconfig="separate")
    [one] = slices.find(tmp_path)
    np.testing.assert_array_equal(one, np.moveaxis(array, 0, -1))


def test_slices_that_differ_are_named(tmp_path: Path) -> None:
    """Those that are not like most; not all that are unlike the first."""
    write(tmp_path, a1=SLICE[:2], a2=SLICE, a3=SLICE, a4=SLICE.astype(float))
    with pytest.raises(InvalidDatasetError, match=r"2 have shape \(3, 4\), dtype uint8, but not these") as caught:
        list(slices.find(tmp_path))
    assert [(Path(problem.key).name, problem.message) for problem in caught.value.problems] == [
        ("a1.npy", "shape (2, 4), dtype uint8"),
        ("a4.npy", "shape (3, 4), dtype float64"),
    ]


def test_a_damaged_slice_is_named(tmp_path: Path) -> None:
    write(tmp_path, a1=SLICE)
    (tmp_path / "a2.npy").write_bytes(b"nothing")
    with pytest.raises(InvalidDatasetError, match=r"a2\.npy: not a readable"):
        list(slices.find(tmp_path))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDatasetError, match="holds no slices"):
        slices.find(tmp_path)
    write(tmp_path, stack=np.zeros((5, 6, 7)))
    with pytest.raises(InvalidDatasetError, match="single slices"):
        slices.find(tmp_path)
    Image.fromarray(SLICE).save(tmp_path / "a.png")
    with pytest.raises(InvalidDatasetError, match=r"1 image/png \(a\.png\), 1 application/x-npy \(stack\.npy\)"):
        slices.find(tmp_path)
