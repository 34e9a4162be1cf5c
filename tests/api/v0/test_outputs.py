"""What executions of the v0 API give, of an algorithm that returns more than the ids of new datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.ids import canonical, version_1
from t3d_server.packages.builder import build, store_package
from tests.api.v0.client import call, ended, execute
from tests.recorded import recorded

if TYPE_CHECKING:
    from tests.api.conftest import Server

NOTES = {
    "pyproject.toml": """
[project]
name = "notes"
version = "1.0.0"
""",
    "Runner.py": """
import numpy as np

from t3d_server.algorithm_utils import BaseRunner, GenericSchema


class Runner(BaseRunner):
    def preprocess(self, input_data, args):
        return input_data["input_dataset_ids"]

    def inference(self, data, args):
        return data

    def postprocess(self, inference_output, args):
        made = self.post_data([{"data": np.ones(3)}], GenericSchema)
        return ["first", *made, *inference_output, "0f8fad5b-d9cb-469f-a165-70867728950e"]
""",
}


@pytest.fixture(scope="module", autouse=True)
def _published(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("notes")
    for name, content in NOTES.items():
        (folder / name).write_text(content)
    server.service.registry.publish(store_package(server.store, build(folder, tags=load_tags(None))))


@pytest.fixture(scope="module")
def record(server: Server, image: str) -> dict[str, Any]:
    return ended(server, execute(server, [image], "notes"))


def test_text_is_in_its_place_among_the_outputs(server: Server, image: str, record: dict[str, Any]) -> None:
    run = call(server, "GET", f"/v1/runs/{record['execution_id']}")
    made = version_1(run["output_dataset_ids"][0])
    assert record["status"] == "COMPLETED"
    assert record["output_dataset_ids"] == ["first", made, image, "0f8fad5b-d9cb-469f-a165-70867728950e"]


def test_text_is_a_warning_in_the_log(record: dict[str, Any]) -> None:
    assert " WARNING postprocess returned text in place of ids of datasets: 'first', '0f8fad5b-" in record["log"]


def test_v1_has_datasets_alone_as_outputs_and_the_text_beside_them(
    server: Server, image: str, record: dict[str, Any]
) -> None:
    run = call(server, "GET", f"/v1/runs/{record['execution_id']}")
    assert run["output_dataset_ids"] == [canonical(record["output_dataset_ids"][1]), canonical(image)]
    assert run["returned"] == [canonical(item) for item in record["output_dataset_ids"]]


def test_the_text_is_in_the_record_of_the_run(server: Server, record: dict[str, Any]) -> None:
    run = recorded(server.store).ended[canonical(record["execution_id"])].run
    assert run.returned == [canonical(item) for item in record["output_dataset_ids"]]


def test_an_input_that_is_an_output_is_still_there(server: Server, image: str, record: dict[str, Any]) -> None:
    assert image in record["output_dataset_ids"]
    assert server.request("GET", f"/api/v0/files/{image}").status_code == 200
