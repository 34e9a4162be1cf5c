"""What becomes of a run that is cancelled, raises, or gives a wrong result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from t3d_server.algorithm_utils import GenericSchema
from t3d_server.errors import RunCancelled
from t3d_server.ids import new_id, version_1
from t3d_server.models import RunStatus
from tests.algorithm_utils.steps import Steps, stored_datasets, with_inference

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


def returning(results: Callable[[Any, list[str]], list[str]]) -> type[Steps]:
    """A runner whose `postprocess` returns this, of itself and the ids of its inputs."""
    return type("Runner", (Steps,), {"postprocess": lambda self, inputs, args: results(self, inputs)})


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
        ([UNKNOWN], f"returned ids that this run did not post, and that are none of its inputs: {UNKNOWN}; return"),
        (["done", version_1(UNKNOWN)], f"and that are none of its inputs: {UNKNOWN}; return"),
        (
            ["x" * 15_000, "y" * 5_000],
            "returned text of 20002 characters, at most 20000 are kept; post it by post_data",
        ),
    ],
)
def test_a_wrong_result_of_postprocess_is_an_error_that_explains_it(bench: Any, result: Any, message: str) -> None:
    """What the run posted is removed."""

    def postprocess(self: Any, inference_output: Any, args: dict[str, Any]) -> Any:
        self.post_data([{"data": np.ones(3)}], GenericSchema)
        return result

    assert message in bench.failure(type("Runner", (Steps,), {"postprocess": postprocess}))
    assert stored_datasets(bench) == 0


def test_text_among_what_postprocess_returns_is_kept_beside_the_datasets(bench: Any) -> None:
    """In its place, and a UUID that is no id of a dataset is text, too."""
    texts = ["first\udc80", "0f8fad5b-d9cb-469f-a165-70867728950e"]

    def results(self: Any, inputs: list[str]) -> list[str]:
        return [texts[0], *self.post_data([{"data": np.ones(3)}], GenericSchema), texts[1]]

    outcome = bench.execute(returning(results))
    assert outcome.status is RunStatus.COMPLETED
    [dataset_id] = outcome.output_dataset_ids
    assert outcome.returned == ("first\\udc80", dataset_id, texts[1])


def test_text_that_postprocess_returns_is_a_warning_in_the_log(bench: Any) -> None:
    bench.execute(returning(lambda self, inputs: ["done", "2 cells"]))
    assert bench.log_lines == [("WARNING", "postprocess returned text in place of ids of datasets: 'done', '2 cells'")]


def test_a_run_that_returns_text_alone_has_no_datasets(bench: Any) -> None:
    def results(self: Any, inputs: list[str]) -> list[str]:
        self.post_data([{"data": np.ones(3)}], GenericSchema)
        return ["done"]

    outcome = bench.execute(returning(results))
    assert (outcome.status, outcome.output_dataset_ids) == (RunStatus.COMPLETED, ())
    assert stored_datasets(bench) == 0


def test_ids_alone_are_not_kept_twice(bench: Any) -> None:
    outcome = bench.execute(Steps)
    assert len(outcome.output_dataset_ids) == 1
    assert outcome.returned == ()
    assert bench.log_lines == []


@pytest.mark.parametrize("form", [str, version_1, str.upper])
def test_an_input_may_be_an_output(bench: Any, form: Callable[[str], str]) -> None:
    def results(self: Any, inputs: list[str]) -> list[str]:
        return [form(inputs[0]), *self.post_data([{"data": np.ones(3)}], GenericSchema)]

    outcome = bench.execute(returning(results), [{"data": np.zeros(1)}])
    assert outcome.output_dataset_ids[0] == bench.input_ids[0]
    assert stored_datasets(bench) == 2


@pytest.mark.parametrize("also", [new_id(), 5], ids=["another id", "a number"])
def test_an_input_stays_where_the_run_fails(bench: Any, also: Any) -> None:
    outcome = bench.execute(returning(lambda self, inputs: [*inputs, also]), [{"data": np.zeros(1)}])
    assert outcome.status is RunStatus.FAILED
    assert stored_datasets(bench) == 1


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
