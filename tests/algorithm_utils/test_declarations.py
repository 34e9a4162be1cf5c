"""What clients are told of inputs and outputs comes from the runner's class and its schemas."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from t3d_server import algorithm_utils
from t3d_server.algorithm_utils import Array, BaseRunner, TypedRunner
from t3d_server.algorithm_utils.declarations import declaration_faults, describe_inputs, describe_outputs, server_types
from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.models import DataKey

TYPE = Path(__file__).parents[2] / "examples" / "volume2mesh" / "Volume2MeshRunner.py"

Points = Annotated[np.ndarray, Array("(N, 3)", dtypes=["float32", "float64"], stored=["float64"])]


class Everything(BaseModel):
    """An author's schema of many kinds of fields."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    points: Points = Field(description="Where they are.")
    maybe: Points | None
    typed: NDArray[np.float32] | None = None
    crops: list[Points] = []
    size: tuple[int, int]
    bare: tuple  # type: ignore[type-arg]  # as the module spec writes it
    names: list[str] | None = None
    method: Literal["fast", "good"] = "fast"
    title: str
    flag: bool = False
    weight: np.float64 | None = None
    either: str | float
    anything: Any


class Runner(BaseRunner):
    """Declares what it takes and gives, though it is of no type."""

    input_schema = Everything
    output_schema = Everything
    input_count = (2, 2)


def test_every_kind_of_field_is_told() -> None:
    inputs = describe_inputs(Runner)  # type: ignore[type-abstract]  # nobody makes one
    assert inputs is not None
    assert (inputs.min_datasets, inputs.max_datasets) == (2, 2)
    assert inputs.keys == [
        DataKey(
            key="points", kind="array", description="Where they are.", shapes=["(N, 3)"], dtypes=["float32", "float64"]
        ),
        DataKey(key="maybe", kind="array", optional=True, shapes=["(N, 3)"], dtypes=["float32", "float64"]),
        DataKey(key="typed", kind="array", optional=True),
        DataKey(
            key="crops",
            kind="list",
            items="array",
            optional=True,
            shapes=["(N, 3)"],
            dtypes=["float32", "float64"],
        ),
        DataKey(key="size", kind="list", items="number", length=2),
        DataKey(key="bare", kind="list", items="any"),
        DataKey(key="names", kind="list", items="text", optional=True),
        DataKey(key="method", kind="text", options=["fast", "good"], optional=True),
        DataKey(key="title", kind="text"),
        DataKey(key="flag", kind="boolean", optional=True),
        DataKey(key="weight", kind="number", optional=True),
        DataKey(key="either", kind="any"),
        DataKey(key="anything", kind="any", optional=True),
    ]


def test_of_outputs_the_stored_dtype_is_told() -> None:
    outputs = describe_outputs(Runner)  # type: ignore[type-abstract]  # likewise
    assert outputs is not None
    assert outputs.count is None
    assert [key.dtypes for key in outputs.keys or ()][:2] == [["float64"], ["float64"]]


def test_a_runner_that_declares_nothing_is_not_described() -> None:
    assert describe_inputs(BaseRunner) is None  # type: ignore[type-abstract]  # likewise
    assert describe_outputs(BaseRunner) is None  # type: ignore[type-abstract]  # likewise
    assert list(declaration_faults(BaseRunner)) == []  # type: ignore[type-abstract]  # likewise


def test_what_a_type_lacks_is_told_of_the_authors_class() -> None:
    class CountRunner(TypedRunner): ...

    runner = type("Runner", (CountRunner,), {})
    assert [fault.partition(" is ")[0] for fault in declaration_faults(runner)] == [
        "CountRunner.algorithm_type",
        "CountRunner.input_schema",
        "CountRunner.output_schema",
    ]


@pytest.mark.parametrize("name", ["Image2Image", "Image2Segmentation", "Image2Embedding", "Image2Alignment"])
def test_every_type_tells_enough_to_build_a_call(name: str) -> None:
    """How many datasets go in and come out, and of each key what it is for; of arrays, shapes or dtypes."""
    runner = server_types()[name]
    inputs, outputs = describe_inputs(runner), describe_outputs(runner)
    assert list(declaration_faults(runner)) == []
    assert inputs is not None
    assert outputs is not None
    assert (inputs.min_datasets, inputs.max_datasets) == (1, None)
    assert inputs.rule
    assert outputs.count
    for key in [*(inputs.keys or ()), *(outputs.keys or ())]:
        assert key.description
        assert key.kind != "array" or key.shapes or key.dtypes


def test_one_file_in_this_package_makes_a_type_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its tags."""
    shutil.copy(TYPE, tmp_path)
    monkeypatch.setattr(algorithm_utils, "__path__", [*algorithm_utils.__path__, str(tmp_path)])
    server_types.cache_clear()
    try:
        assert server_types()["Volume2Mesh"].__name__ == "Volume2MeshRunner"
        assert set(load_tags()["Volume2Mesh"]) == {"isosurface", "mesh-segmentation"}
    finally:
        server_types.cache_clear()
        del sys.modules["t3d_server.algorithm_utils.Volume2MeshRunner"]
