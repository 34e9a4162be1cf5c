"""What is sent of arrays, files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t3d_server.client.bodies import Data, Sending, body_of
from t3d_server.datasets import hdf5
from t3d_server.errors import InvalidDatasetError


class Wrapped:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array


def sent(data: Data, path: Path, key: str = "image") -> dict[str, Any]:
    """The values that arrive."""
    with body_of(data, key, {}) as body, path.open("wb") as file:
        for block in body.blocks():
            file.write(block)
    assert path.stat().st_size == body.size_bytes
    return hdf5.read(path)


GRID = np.arange(2 * 600 * 700, dtype=np.float32).reshape(2, 600, 700)


@pytest.mark.parametrize(
    "array",
    [
        GRID,
        GRID.T[:, :, 0],
        GRID[:, ::-2, ::3],
        GRID.astype(">f4"),
        (GRID / GRID.max()).astype(np.float16),
        GRID[:, :0],
        GRID[0] > 9,
    ],
    ids=["as it lies", "transposed", "strided", "big-endian", "half", "empty", "bool"],
)
def test_arrays_arrive_however_they_lie_in_memory(array: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(sent(array, tmp_path / "x.h5", "data")["data"], array)


def test_values_arrive_together(tmp_path: Path) -> None:
    values = {"image": Wrapped(GRID), "mask": GRID > 9, "spacing": (3, 2, 1), "note": "x", "names": ["a"], "n": 5}
    arrived = sent(values, tmp_path / "x.h5")
    np.testing.assert_array_equal(arrived.pop("image"), GRID)
    np.testing.assert_array_equal(arrived.pop("mask"), GRID > 9)
    assert arrived.pop("spacing").tolist() == [3, 2, 1]
    assert arrived == {"note": "x", "names": ["a"], "n": 5, "axes": "ZYX"}


def test_arrays_are_sent_from_their_memory() -> None:
    with body_of({"image": GRID, "mask": GRID.astype(int)}, "image", {}) as body:
        blocks = [np.frombuffer(block, np.uint8) for block in body.blocks() if len(block)]
        copied = sum(block.size for block in blocks if not np.shares_memory(block, GRID))
        assert copied - 2 * GRID.nbytes < 20_000


def test_what_goes_wrong_on_this_side_is_kept(tmp_path: Path) -> None:
    """A file that becomes shorter must not look like a connection that breaks."""
    path = tmp_path / "x.npy"
    np.save(path, GRID)
    with body_of(path, "image", {}) as body:
        path.write_bytes(path.read_bytes()[:9])
        sending = Sending(body)
        with pytest.raises(InvalidDatasetError, match=r"x\.npy.* shorter"):
            list(sending)
    assert isinstance(sending.fault, InvalidDatasetError)
    assert not sending.complete
