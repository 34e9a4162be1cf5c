"""What a runner may rely on while it loads and runs, and what becomes of a run that goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from t3d_server.algorithm_utils import BaseRunner, GenericSchema, Image2ImageRunner, MaskSchema
from t3d_server.errors import RunCancelled
from t3d_server.models import RunStatus


class Steps(BaseRunner):
    """A runner of three steps that do nothing; tests replace the one they are about."""

    def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> Any:
        return input_data["input_dataset_ids"]

    def inference(self, data: Any, args: dict[str, Any]) -> Any:
        return data

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        return self.post_data([{"data": np.ones(3)}], GenericSchema)


def with_inference(inference: Callable[[Any], Any]) -> type[Steps]:
    """A runner whose `inference` is this function of the runner."""
    return type("Runner", (Steps,), {"inference": lambda self, data, args: inference(self)})


def stored_datasets(bench: Any) -> int:
    return len(list(bench.objects.list("datasets/")))


# --- loading ---


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


# --- running ---


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
    assert message == "TypeError: a schema is a pydantic model, a class, not 'data'"


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


# --- runs that end otherwise ---


@pytest.mark.parametrize(
    "call",
    [
        lambda self: self.log_message("hello"),
        lambda self: self.set_progress(0.5),
        lambda self: self.fetch_asset("file"),
        lambda self: self.fetch_data([], GenericSchema),
        lambda self: self.post_data([{"data": np.ones(1)}], GenericSchema),
        lambda self: None,  # the step that follows
    ],
)
def test_every_call_stops_a_cancelled_run(bench: Any, call: Callable[[Any], Any]) -> None:
    """Even in an `except Exception`, and what was posted before is removed."""
    (bench.folder / "file").touch()
    reached: list[str] = []

    def inference(self: Any) -> None:
        self.post_data([{"data": np.ones(3)}], GenericSchema)
        bench.cancel_when = lambda: True
        try:
            call(self)
        except Exception:
            reached.append("swallowed")

    outcome = bench.execute(with_inference(inference))

    assert outcome.status is RunStatus.CANCELLED
    assert outcome.error is not None
    assert outcome.error.code == "cancelled"
    assert reached == []
    assert stored_datasets(bench) == 0


@pytest.mark.parametrize("other", [None, ValueError("something else")])
def test_a_cancelled_run_that_catches_everything_is_cancelled_all_the_same(bench: Any, other: Exception | None) -> None:
    """Code that swallows what was to stop it, or makes another error of it, has neither a result nor a failure."""

    def inference(self: Any) -> None:
        bench.cancel_when = lambda: True
        try:
            self.set_progress(0.5)
        except RunCancelled:
            bench.cancel_when = lambda: False
            if other is not None:
                raise other from None

    assert bench.execute(with_inference(inference)).status is RunStatus.CANCELLED
    assert stored_datasets(bench) == 0


@pytest.mark.parametrize(
    ("action", "kind", "message"),
    [
        (lambda: sys.exit("bye"), "SystemExit", "bye"),
        (lambda: 1 / 0, "ZeroDivisionError", "division by zero"),
        (lambda: dict[str, int]()["key"], "KeyError", "'key'"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "KeyboardInterrupt", ""),
    ],
)
def test_whatever_a_run_raises_is_its_outcome(bench: Any, action: Callable[[], Any], kind: str, message: str) -> None:
    """Also sys.exit; type and message are told, and what was posted is removed."""

    def inference(self: Any) -> None:
        self.post_data([{"data": np.ones(3)}, {"data": np.ones(4)}], GenericSchema)
        action()

    outcome = bench.execute(with_inference(inference))
    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.type, outcome.error.message) == ("algorithm_error", kind, message)
    assert stored_datasets(bench) == 0


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            None,
            "postprocess must return the list of ids that post_data gave, but returned None; is a `return` missing?",
        ),
        ("an id", "but returned str 'an id'"),
        ([np.ones(2)], "but returned list [array([1., 1.])]"),
        (["0198c0de-0000-7000-8000-000000000000"], "returned ids that this run did not post: 0198c0de"),
    ],
)
def test_wrong_result_of_postprocess_is_told(bench: Any, result: Any, message: str) -> None:
    """Only ids that the run posted are a result; what it posted is removed."""

    def postprocess(self: Any, inference_output: Any, args: dict[str, Any]) -> Any:
        self.post_data([{"data": np.ones(3)}], GenericSchema)
        return result

    assert message in bench.failure(type("Runner", (Steps,), {"postprocess": postprocess}))
    assert stored_datasets(bench) == 0


def test_posted_datasets_that_are_not_returned_are_removed(bench: Any) -> None:
    """The result is what `postprocess` returned, no more."""

    def postprocess(self: Any, inference_output: Any, args: dict[str, Any]) -> Any:
        return self.post_data([{"data": np.full(1, n)} for n in range(3)], GenericSchema)[1:2]

    [result] = bench.results(type("Runner", (Steps,), {"postprocess": postprocess}), [])
    assert result["data"] == 1
    assert stored_datasets(bench) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"other": 1}, r"result 1 does not fit GenericSchema; it has other\n  - data: is missing"),
        ({"data": {}}, r"result 1 .*\n  - data: Input should be an instance of ndarray, but got dict"),
        ({"data": np.ones(1), "extra": {"nested": 1}}, r"result 1.*\n  - extra: is a dictionary"),
    ],
    ids=["key", "kind", "extra"],
)
def test_a_wrong_result_is_named_and_keeps_all_from_being_stored(bench: Any, wrong: Any, message: str) -> None:
    """Whether the schema finds it or the store; the author may go on without it."""

    def inference(self: Any) -> None:
        with pytest.raises(ValueError, match=message):
            self.post_data([{"data": np.ones(1)}, wrong], GenericSchema)
        assert stored_datasets(bench) == 0

    assert bench.execute(with_inference(inference)).error is None


def test_a_thread_that_outlives_its_run_is_refused(bench: Any) -> None:
    """The run's context closes with it."""
    kept: list[Any] = []
    assert bench.execute(with_inference(kept.append)).error is None
    with pytest.raises(RuntimeError, match="has ended"):
        kept[0].set_progress(0.5)


def test_text_that_is_no_utf8_is_escaped(bench: Any) -> None:
    """File names on Linux may hold such text; records could not be written with it."""

    def inference(self: Any) -> None:
        self.log_message("read a\udc80.tif")
        raise ValueError("a\udc80.tif is no image")

    outcome = bench.execute(with_inference(inference))
    assert bench.log_lines == [("INFO", "read a\\udc80.tif")]
    assert outcome.error is not None
    assert outcome.error.message == "a\\udc80.tif is no image"
    outcome.error.model_dump_json()
