"""Assets work wherever authors put bytes or an open file."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from t3d_server.algorithm_utils.assets import open_asset

CONTENT = b"0123456789"


@pytest.fixture
def asset(tmp_path: Path) -> Any:
    (tmp_path / "digits").write_bytes(CONTENT)
    return open_asset(tmp_path / "digits")


def test_libraries_read_it(tmp_path: Path) -> None:
    """torch, numpy, pickle, PIL, BytesIO and json take it as they take bytes or a file."""
    path = tmp_path / "file"
    weights = torch.nn.Linear(3, 2).state_dict()
    torch.save(weights, path)
    assert torch.load(open_asset(path)).keys() == weights.keys()
    assert torch.load(io.BytesIO(open_asset(path)), weights_only=True).keys() == weights.keys()

    with path.open("wb") as file:
        np.save(file, np.arange(5))
    np.testing.assert_array_equal(np.load(open_asset(path)), np.arange(5))
    with path.open("wb") as file:
        np.savez(file, a=np.arange(5))
    np.testing.assert_array_equal(np.load(open_asset(path))["a"], np.arange(5))

    path.write_bytes(pickle.dumps({"a": 1}))
    assert pickle.loads(open_asset(path)) == pickle.load(open_asset(path)) == {"a": 1}

    PIL.Image.new("RGB", (4, 3), "red").save(path, format="png")
    assert PIL.Image.open(open_asset(path)).size == (4, 3)

    path.write_text('{"a": "ä"}', "utf-8")
    assert json.loads(bytes(open_asset(path))) == json.load(open_asset(path)) == {"a": "ä"}
    assert open_asset(path).decode() == '{"a": "ä"}'


def test_it_is_like_bytes(asset: Any) -> None:
    """Length, slices, comparison, hash and search are those of its content."""
    assert len(asset) == 10
    assert asset[2:5] == b"234"
    assert asset[0] == CONTENT[0]
    assert asset == CONTENT
    assert CONTENT == asset  # noqa: SIM300  # from the side of bytes, too
    assert asset != CONTENT[1:]
    assert asset != "0123456789"
    assert hash(asset) == hash(CONTENT)
    assert asset.find(b"45") == 4
    assert bytes(asset) == CONTENT
    np.testing.assert_array_equal(np.frombuffer(asset, np.uint8), list(CONTENT))


def test_it_is_like_a_file(asset: Any) -> None:
    """It can be read and rewound, and not be written."""
    assert (asset.readable(), asset.seekable(), asset.writable()) == (True, True, False)
    assert asset.read(3) == b"012"
    asset.seek(-2, io.SEEK_END)
    assert asset.read() == b"89"
    with pytest.raises(TypeError):
        asset[0] = 1
    with pytest.raises(TypeError):
        asset.write(b"x")


def test_equal_files_are_equal(asset: Any, tmp_path: Path) -> None:
    """Two assets of the same content compare equal, wherever they were read to."""
    (tmp_path / "copy").write_bytes(CONTENT)
    other = open_asset(tmp_path / "copy")
    other.read(4)
    assert asset == other


def test_empty_file_is_empty_bytes(tmp_path: Path) -> None:
    """An empty file cannot be mapped and need not be."""
    (tmp_path / "empty").touch()
    assert open_asset(tmp_path / "empty") == b""
