"""What a runner may rely on while it loads and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from t3d_server.algorithm_utils import GenericSchema, Image2ImageRunner, MaskSchema
from t3d_server.ids import version_1
from t3d_server.models import RunStatus
from tests.algorithm_utils.steps import Steps, stored_datasets, with_inference


def test_init_and_load_assets_can_log_and_fetch_assets(bench: Any) -> None:
    """The context is there from the author's own `__init__` on."""
    (bench.folder / "labels.txt").write_text("cell\n")

    class Runner(Steps):
        def __init__(self) -> None:
            self.log_message(f"made on {self.device}")

        def load_assets(self) -> None:
            self.labels = self.fetch_asset("labels.txt").decode().split()

    assert bench.load(Runner).runner.labels == ["cell"]
    assert bench.log_lines == [("INFO", "made on cpu")]


@pytest.mark.parametrize(
    "call", [lambda self: self.fetch_data([], GenericSchema), lambda self: self.post_data([], GenericSchema)]
)
def test_datasets_belong_to_runs(bench: Any, call: Callable[[Any], Any]) -> None:
    """In `load_assets` they are a clear error."""
    with pytest.raises(RuntimeError, match="is not possible in load_assets"):
        bench.load(type("Runner", (Steps,), {"load_assets": call}))


def test_a_runner_alone_says_what_to_do() -> None:
    """Outside the server its calls name the way to try it."""
    with pytest.raises(RuntimeError, match="t3d debug"):
        Steps().log_message("hello")


def test_an_author_may_use_any_name_that_the_spec_leaves_free(bench: Any) -> None:
    """Own methods and attributes called like what the server gives go before it, and break nothing."""

    class Runner(Steps):
        device = "tpu"

        def create(self) -> str:
            return "created"

        def attach(self) -> str:
            return "attached"

        @property
        def context(self) -> str:
            return "context"

        def run_id(self) -> str:  # type: ignore[override]  # that is the point of it
            return "own id"

        def load_assets(self) -> None:
            self._context = self.create()

        def inference(self, data: Any, args: dict[str, Any]) -> Any:
            self.log_message(f"{self._context} {self.attach()} {self.context} {self.run_id()} {self.device}")

    assert bench.execute(Runner).error is None
    assert bench.log_lines == [("INFO", "created attached context own id tpu")]


def test_a_runner_may_set_its_own_device(bench: Any) -> None:
    """As `torch.device(self.device)`, which each run then sees."""
    seen: list[Any] = []

    class Runner(Steps):
        def load_assets(self) -> None:
            self.device = (self.device, 0)  # type: ignore[assignment]  # as authors do

        def inference(self, data: Any, args: dict[str, Any]) -> Any:
            seen.append(self.device)

    assert bench.execute(Runner).error is None
    assert seen == [("cpu", 0)]


def test_data_and_args_pass_through_the_three_steps(bench: Any) -> None:
    """Each step gets the result of the one before, and all get the args and the run's id."""
    seen: list[Any] = []

    class Runner(Steps):
        def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> Any:
            seen.append((input_data, dict(args), self.run_id))
            return "prepared"

        def inference(self, data: Any, args: dict[str, Any]) -> Any:
            seen.append((data, dict(args), self.run_id))
            return "inferred"

        def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
            seen.append((inference_output, dict(args), self.run_id))
            return []

    outcome = bench.execute(Runner, [{"data": np.ones(1)}], {"sigma": 2})

    assert outcome.status is RunStatus.COMPLETED
    assert list(outcome.phase_times_s or {}) == ["preprocess", "inference", "postprocess"]
    data, args, run_ids = zip(*seen, strict=True)
    assert data == ({"input_dataset_ids": bench.input_ids}, "prepared", "inferred")
    assert args == ({"sigma": 2},) * 3
    assert len(set(run_ids)) == 1
    assert run_ids[0]


def test_runs_share_assets_and_nothing_else(bench: Any) -> None:
    """What a run sets on `self`, or changes in its args, is gone with it; what `load_assets` set is one object."""
    seen: list[Any] = []

    class Runner(Steps):
        def load_assets(self) -> None:
            self.model = object()
            self.count = 0

        def inference(self, data: Any, args: dict[str, Any]) -> Any:
            self.count += 1
            args["values"].append(self.count)
            seen.append((self.count, args["values"], self.model, self.run_id))

    algorithm, args = bench.load(Runner), {"values": [0]}
    for _ in range(2):
        assert bench.execute(algorithm, args=args).error is None
    counts, values, models, run_ids = zip(*seen, strict=True)
    assert counts == (1, 1)
    assert values == ([0, 1], [0, 1])
    assert models[0] is models[1] is algorithm.runner.model
    assert len(set(run_ids)) == 2
    assert not algorithm.runner.run_id


@pytest.mark.parametrize("parallel", [False, True])
def test_fetch_data_gives_dictionaries_in_order(bench: Any, parallel: bool) -> None:
    """One for each id; keys choose, and an absent one is None."""
    seen: list[Any] = []

    class Runner(Steps):
        def inference(self, data: Any, args: dict[str, Any]) -> Any:
            seen.append(self.fetch_data(data, GenericSchema, parallel=parallel))
            seen.append(self.fetch_data(data, GenericSchema, "note", "absent", parallel=parallel))

    assert bench.execute(Runner, [{"data": np.full(2, n), "note": str(n)} for n in range(20)]).error is None
    whole, chosen = seen
    assert [dataset["data"].tolist() for dataset in whole] == [[n, n] for n in range(20)]
    assert chosen == [{"note": str(n), "absent": None} for n in range(20)]


def test_fetch_data_takes_the_ids_that_v0_gives(bench: Any) -> None:
    """A client of the v0 API may send such an id as the value of a parameter."""

    class Runner(Steps):
        def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> Any:
            [dataset] = self.fetch_data([version_1(input_data["input_dataset_ids"][0])], GenericSchema)
            self.log_message(str(dataset["data"].tolist()))

    assert bench.execute(Runner, [{"data": np.arange(3)}]).error is None
    assert bench.log_lines == [("INFO", "[0, 1, 2]")]


def test_wrong_datasets_name_the_id_and_the_key(bench: Any) -> None:
    """A dataset that does not fit the schema, or is not there, is told by its id."""
    runner = type("Runner", (Steps,), {"inference": lambda self, data, args: self.fetch_data(data, MaskSchema)})
    message = bench.failure(runner, [{"data": np.ones(2)}])
    assert f"dataset {bench.input_ids[0]} does not fit MaskSchema; it has data" in message
    assert "mask: is missing" in message
    message = bench.failure(with_inference(lambda self: self.fetch_data(["no-id"], GenericSchema)))
    assert "no-id" in message
    message = bench.failure(with_inference(lambda self: self.fetch_data("abc", GenericSchema)))
    assert "fetch_data takes a list of dataset ids, but got 'abc'" in message


class Plain(BaseModel):
    """A model that knows nothing of datasets."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    data: np.ndarray
    size: tuple[int, int]


def test_any_pydantic_model_serves_as_schema(bench: Any) -> None:
    """What is none is told as such."""
    seen: list[Any] = []

    class Runner(Steps):
        def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
            ids = self.post_data([{"data": np.ones(2), "size": (1, 2)}], Plain)
            seen.extend(self.fetch_data(ids, Plain))
            return ids

    assert bench.execute(Runner).error is None
    assert seen[0]["size"] == (1, 2)
    message = bench.failure(with_inference(lambda self: self.fetch_data([], "data")))
    assert message.endswith("a schema is a class that derives from DataSchema (or pydantic's BaseModel), not 'data'")


def test_typed_runners_take_no_schema(bench: Any) -> None:
    """`fetch_data(ids)` and `post_data(output)` know their schemas."""

    class Runner(Image2ImageRunner):
        def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
            return data

        def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
            return self.post_data([{"image": inference_output[0]}, {"mask": inference_output[0]}])

    message = bench.failure(Runner, [{"image": np.ones((2, 2))}])
    assert "result 1 does not fit ImageSchema; it has mask" in message
    assert stored_datasets(bench) == 1


def test_progress_is_clamped_with_one_warning(bench: Any) -> None:
    """Values outside 0 to 1 are moved there, and said once; of percents, what they are meant to be."""

    def inference(self: Any) -> None:
        for fraction in (-1, 0.25, np.float32(0.5), 3, float("nan"), True):
            self.set_progress(fraction)

    assert bench.execute(with_inference(inference)).error is None
    assert bench.fractions == [0, 0.25, 0.5, 1, 0, 1]
    assert bench.execute(with_inference(lambda self: self.set_progress(50))).error is None
    clamped = "is outside of 0 to 1 and was clamped"
    assert bench.log_lines == [
        ("WARNING", f"set_progress(-1) {clamped}"),
        ("WARNING", f"set_progress(50) {clamped}; it is a fraction: did you mean 0.5?"),
    ]


def test_log_levels(bench: Any) -> None:
    """The four levels of the spec; others are an error that names them."""

    def inference(self: Any) -> None:
        for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
            self.log_message(level.lower(), logging_level=level)
        self.log_message(42)
        self.log_message("hello", "LOUD")

    message = bench.failure(with_inference(inference))
    assert bench.log_lines == [(level, level.lower()) for level in ("DEBUG", "INFO", "WARNING", "ERROR")] + [
        ("INFO", "42")
    ]
    assert "'LOUD' is unknown; allowed are DEBUG, INFO, WARNING, ERROR" in message
