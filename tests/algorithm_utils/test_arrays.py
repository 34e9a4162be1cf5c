"""What `Array` takes, refuses and converts."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from t3d_server.algorithm_utils import Array, DataSchema


class Mesh(DataSchema):
    """An author's schema."""

    vertices: Annotated[np.ndarray, Array("(V, 3)", dtypes=["float32", "float64"], stored=["float32"])]
    colours: Annotated[np.ndarray, Array("(V, 3 or 4)", dtypes="uint8")] | None = None
    weights: list[Annotated[np.ndarray, Array("(V,)")]] = []


def test_what_fits_is_kept_or_converted() -> None:
    """Tensors too; an array that has a dtype of those stored is not copied."""
    vertices = np.zeros((5, 3), np.float32)
    mesh = Mesh(vertices=vertices, weights=[np.ones(5)])
    assert mesh.vertices is vertices
    assert mesh.colours is None
    mesh = Mesh(vertices=torch.zeros(5, 3).double(), colours=np.zeros((5, 4), np.uint8))  # type: ignore[arg-type]
    assert mesh.vertices.dtype == np.float32


def test_all_that_does_not_fit_is_told_by_key() -> None:
    """Dtype and shape of one array at once, inside optional fields and lists too."""
    values: dict[str, Any] = {"vertices": np.zeros((5, 2), int), "colours": np.zeros((5, 2), np.uint8)}
    with pytest.raises(ValidationError) as caught:
        Mesh(**values, weights=[np.ones((5, 1))])
    assert {fault["loc"][0]: fault["msg"] for fault in caught.value.errors()} == {
        "vertices": "Value error, dtype int64 is not allowed here; allowed: float32, float64. "
        "shape (5, 2) does not fit; allowed: (V, 3)",
        "colours": "Value error, shape (5, 2) does not fit; allowed: (V, 3 or 4)",
        "weights": "Value error, shape (5, 1) does not fit; allowed: (V,)",
    }


@pytest.mark.parametrize(("shape", "lengths"), [("()", ()), ("(D,)", (7,)), ("(2 or 3, X)", (3, 0))])
def test_shapes_are_written_as_python_shows_them(shape: str, lengths: tuple[int, ...]) -> None:
    assert Array(shape).check(np.ones(lengths)) is not None


@pytest.mark.parametrize("shape", ["V, 3", "(V 3", "(, 3)", "(3x)", "(V, 3 or)", ""])
def test_a_faulty_declaration_is_told_where_it_stands(shape: str) -> None:
    with pytest.raises(ValueError, match="is no shape, such as"):
        Array(shape)
    with pytest.raises(ValueError, match="'float' is no name of a numpy dtype"):
        Array(dtypes=["float"])
