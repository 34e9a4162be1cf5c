"""The module spec's own example, with nothing but its slips mended, works."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from t3d_server.datasets.store import DatasetStore
from t3d_server.execution.executor import execute, load
from t3d_server.ids import new_id
from t3d_server.models import LogLine, RunRequest
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.fetch import Package, fetch_package, folder_package
from t3d_server.runs.acceptance import accept
from t3d_server.storage.memory import MemoryObjectStore

WEIGHT = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])
BIAS = torch.tensor([0.5, 0.0])
DATA = np.array([[1, 1, 1], [0, 2, 0]], np.float32)


class Journal:
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.fractions: list[float] = []

    def log(self, line: LogLine) -> None:
        self.messages.append(line.message)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def cancelled(self) -> bool:
        return False


@pytest.fixture
def foo(tmp_path: Path) -> Path:
    """The folder with its heavy model, which git does not keep."""
    folder = tmp_path / "foo"
    shutil.copytree(Path(__file__).parent / "foo", folder)
    (folder / "files").mkdir()
    torch.save({"linear.weight": WEIGHT, "linear.bias": BIAS}, folder / "files" / "some_heavy_model.pt")
    return folder


@pytest.mark.parametrize("form", ["folder", "package"])
def test_foo_runs(foo: Path, tmp_path: Path, tags: dict[str, dict[str, str]], form: str) -> None:
    """It runs from its folder, and minified from the store; its default and a given argument reach the model."""
    objects, journal = MemoryObjectStore(), Journal()
    datasets = DatasetStore(objects, scratch=tmp_path / "scratch", max_dataset_bytes=2**20)
    built = build(foo, tags=tags)
    package: Package = folder_package(foo)
    if form == "package":
        package = fetch_package(objects, store_package(objects, built), tmp_path / "cache")
        assert "Preprocess the request data" not in (package.folder / "Runner.py").read_text()

    algorithm = load(package, built.manifest, "cpu", journal.log)
    assert journal.messages[-1] == "Loading the Foo assets."
    given = datasets.add({"data": DATA}).id
    for args, sign in (({}, 1), ({"some_user_defined_args": "goodbye"}, -1)):
        run, _ = accept(algorithm.manifest, RunRequest(input_dataset_ids=[given], args=args), ["cpu"], new_id())
        outcome = execute(algorithm, run, datasets, journal)

        assert outcome.error is None
        [output_id] = outcome.output_dataset_ids
        expected = sign * (DATA @ WEIGHT.numpy().T + BIAS.numpy())
        np.testing.assert_allclose(datasets.read(output_id)["output"], expected)
    assert "User defined args: hello" in journal.messages
    assert journal.fractions == [0.5, 0.5]


def test_building_foo_warns_of_what_is_old_and_refuses_nothing(foo: Path, tags: dict[str, dict[str, str]]) -> None:
    """Unknown tags, the flat form of parameters, and torch, which is no dependency, are warnings with their place."""
    assert [warning.partition(": ")[0] for warning in build(foo, tags=tags).warnings] == [
        "tool.t3dserver.additional_parameters[some_user_defined_args]",
        "tool.t3dserver.additional_parameters[some_user_defined_args].type",
        "tool.t3dserver.tags[0]",
        "tool.t3dserver.tags[1]",
        "Runner.py:5",
    ]
