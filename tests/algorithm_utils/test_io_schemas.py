"""Datasets come back from the store as the schema's annotations say, and faults name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t3d_server.algorithm_utils import (
    AlignmentSchema,
    DataSchema,
    EmbeddingSchema,
    GenericSchema,
    ImageSchema,
    MaskSchema,
    VolumeSchema,
)
from t3d_server.algorithm_utils.io_schemas import as_data_schema
from t3d_server.datasets import hdf5


class Own(DataSchema):
    """An author's schema of many kinds of fields."""

    data: np.ndarray
    typed: NDArray[np.float32] | None = None
    crops: list[np.ndarray] | None = None
    anything: Any = None
    size: tuple = ()  # type: ignore[type-arg]  # as the module spec writes it
    names: list[str] = []
    counts: list[int] = []
    title: str = "untitled"
    scale: float = 1.0


def stored(values: dict[str, Any], path: Path, schema: type[DataSchema] = Own) -> dict[str, Any]:
    """`values` through the schema, an HDF5 file and the schema again, as from `post_data` to `fetch_data`."""
    hdf5.write(path, dict(schema.model_validate(values)))
    return dict(schema.model_validate(hdf5.read(path)))


def faults(schema: type[DataSchema], values: dict[str, Any]) -> dict[str, str]:
    """Messages by key."""
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(values)
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in caught.value.errors()}


def test_annotations_bring_python_values_back(tmp_path: Path) -> None:
    """Tuples, lists, text and numbers are what they were, though they are stored as arrays."""
    given = {"data": [1, 2], "size": (3, 4), "names": ["a", "b"], "counts": [5, 6], "title": "cells", "scale": 0.5}
    got = stored(given, tmp_path / "dataset.h5")
    np.testing.assert_array_equal(got.pop("data"), [1, 2])
    del given["data"]
    assert {key: got[key] for key in given} == given
    assert type(got["size"]) is tuple
    assert type(got["counts"][0]) is int


def test_absent_optionals_take_their_defaults(tmp_path: Path) -> None:
    """None is left out of the file, and reads as the default."""
    got = stored({"data": np.ones(1), "crops": None, "scale": None}, tmp_path / "dataset.h5")
    assert (got["crops"], got["typed"], got["names"], got["scale"]) == (None, None, [], 1.0)


class Optional(DataSchema):
    """Fields that may be None, without a default."""

    data: np.ndarray
    mask: np.ndarray | None
    title: str | None
    anything: Any


def test_what_was_posted_as_none_reads_as_none(tmp_path: Path) -> None:
    """Also where the schema gives no default; a key that must not be None is still required."""
    given = {"data": np.ones(1), "mask": None, "title": None, "anything": None}
    got = stored(given, tmp_path / "dataset.h5", Optional)
    assert (got["mask"], got["title"], got["anything"]) == (None, None, None)
    assert faults(Optional, {}) == {"data": "Field required"}


class Plain(BaseModel):
    """A model that knows nothing of datasets."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    data: np.ndarray
    size: tuple[int, int]
    weights: list[float]
    title: str | None
    scale: float = Field(default=1.0, gt=0)


def test_any_pydantic_model_is_a_schema(tmp_path: Path) -> None:
    """Its values are converted like those of `DataSchema`; its own checks and configuration hold."""
    schema = as_data_schema(Plain)
    given = {"data": torch.ones(2), "size": (3, 4), "weights": [0.5, 1.0], "title": None, "extra": "kept"}
    got = stored(given, tmp_path / "dataset.h5", schema)
    np.testing.assert_array_equal(got.pop("data"), [1, 1])
    assert got == {"size": (3, 4), "weights": [0.5, 1.0], "title": None, "scale": 1.0, "extra": "kept"}
    assert schema.__name__ == "Plain"
    assert set(faults(schema, {"size": (1, 2), "weights": [], "scale": 0})) == {"data", "scale"}


def test_list_of_arrays_comes_back_as_one(tmp_path: Path) -> None:
    """It is stored with a new axis 0."""
    got = stored({"data": 1, "crops": [torch.zeros(2, 3), np.ones((2, 3), np.float32)]}, tmp_path / "dataset.h5")
    assert [crop.shape for crop in got["crops"]] == [(2, 3), (2, 3)]
    assert all(isinstance(crop, np.ndarray) for crop in got["crops"])


def test_any_keeps_arrays(tmp_path: Path) -> None:
    """Where the annotation says nothing, an array stays one."""
    assert isinstance(stored({"data": 1, "anything": np.ones(3)}, tmp_path / "dataset.h5")["anything"], np.ndarray)


def test_extra_keys_survive(tmp_path: Path) -> None:
    """Keys that the schema does not name pass through, arrays and text."""
    got = stored({"data": np.ones(2), "extra": np.arange(3), "note": "hello"}, tmp_path / "dataset.h5", GenericSchema)
    np.testing.assert_array_equal(got["extra"], np.arange(3))
    assert got["note"] == "hello"


@pytest.mark.parametrize(
    "value",
    [torch.ones(2, 3, requires_grad=True), [[1.0] * 3] * 2, [np.ones(3), torch.ones(3)], np.ones((2, 3))],
)
def test_array_fields_take_tensors_and_lists(value: Any) -> None:
    """What can be an array becomes one."""
    own = Own(data=value, typed=value)
    for array in (own.data, own.typed):
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, np.ones((2, 3)))


def test_tensors_fit_other_fields_too() -> None:
    """Scalar and tuple fields take tensors and numpy scalars."""
    own = Own(data=np.float32(2), scale=torch.tensor(0.5), size=torch.tensor([1, 2]), counts=np.array([3]))  # type: ignore[arg-type]
    assert own.data == 2
    assert (own.scale, own.size, own.counts) == (0.5, (1, 2), [3])


def test_arrays_are_not_copied() -> None:
    """An array that fits is kept as it is."""
    array = np.ones((4, 4), np.float32)
    assert ImageSchema(image=array).image is array


def test_every_fault_names_its_key() -> None:
    """All faults come at once, each under the key it concerns."""
    found = faults(
        Own,
        {"typed": [np.ones(2), np.ones(3)], "crops": "text", "counts": ["many"], "anything": torch.ones(1).bfloat16()},
    )
    assert found["data"] == "Field required"
    assert "a list of arrays needs equal shapes, but has (2,), (3,)" in found["typed"]
    assert "bfloat16 tensor that numpy cannot take" in found["anything"]
    assert {"crops", "counts.0"} < set(found)


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (ImageSchema, {"image": np.ones((2, 2), bool)}, "dtype bool is not allowed here; allowed: uint8, int16, "),
        (ImageSchema, {"image": np.ones(3)}, "shape (3,) does not fit; allowed: (Y, X), (Y, X, 3 or 4), "),
        (ImageSchema, {"image": np.ones((2, 3, 3, 5))}, "shape (2, 3, 3, 5) does not fit"),
        (ImageSchema, {"image": np.ones((2, 2)), "points": np.ones(3)}, "shape (3,) does not fit; allowed: (N, ndim)"),
        (MaskSchema, {"mask": np.ones((2, 2))}, "dtype float64 is not allowed here; allowed: bool, uint8, "),
        (VolumeSchema, {"volume": np.ones((2, 2))}, "shape (2, 2) does not fit; allowed: (Z, Y, X)"),
        (VolumeSchema, {"volume": np.ones((2, 2, 2)), "spacing": (1, 1)}, "Field required"),
        (EmbeddingSchema, {"features": np.ones(2, int), "input_size": (1, 1), "original_size": (1, 1)}, "dtype int64"),
        (AlignmentSchema, {"transform_matrix": np.eye(2)}, "shape (2, 2) does not fit; allowed: (3, 3)"),
    ],
)
def test_conventions_are_checked(schema: type[DataSchema], values: dict[str, Any], message: str) -> None:
    """Each schema says what it found and what it allows."""
    [found] = faults(schema, values).values()
    assert message in found


def test_dtypes_become_those_of_the_conventions() -> None:
    """bool masks (also strided ones) are uint8 0 and 1, points float64, features float32."""
    mask = np.eye(4, dtype=bool)[:, ::2]
    image = ImageSchema(image=np.zeros((4, 2)), mask=mask, points=[[1, 2]])  # type: ignore[arg-type]
    assert image.mask is not None
    assert image.points is not None
    assert image.mask.dtype == np.uint8
    np.testing.assert_array_equal(image.mask, mask)
    assert image.points.dtype == np.float64
    embedding = EmbeddingSchema(features=np.ones(3, np.float16), input_size=(2, 2), original_size=[4, 4])  # type: ignore[arg-type]
    assert embedding.features.dtype == np.float32
    assert embedding.original_size == (4, 4)
