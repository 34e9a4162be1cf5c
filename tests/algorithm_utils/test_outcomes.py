"""What becomes of a run that is cancelled, raises, or gives a wrong result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from t3d_server.algorithm_utils import GenericSchema
from t3d_server.errors import RunCancelled
from t3d_server.models import RunStatus
from tests.algorithm_utils.steps import Steps, stored_datasets, with_inference


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
