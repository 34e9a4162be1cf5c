"""What is refused before it becomes a run."""

from __future__ import annotations

import pytest

from t3d_server.errors import DeviceNotSupportedError, InvalidRequestError
from t3d_server.ids import new_id
from t3d_server.models import InputInfo, Manifest, RunRequest, TolerantRunRequest
from t3d_server.runs.acceptance import accept


@pytest.mark.parametrize(
    ("inputs", "right", "wrong", "allowed"),
    [
        (None, [0, 1, 9], [], ""),
        (InputInfo(min_datasets=1), [1, 9], [0], "1 or more"),
        (InputInfo(min_datasets=2, max_datasets=2), [2], [0, 1, 3], "2"),
        (InputInfo(min_datasets=0, max_datasets=2), [0, 1, 2], [3], "0 to 2"),
    ],
)
def test_the_number_of_inputs_is_that_which_the_algorithm_takes(
    inputs: InputInfo | None, right: list[int], wrong: list[int], allowed: str
) -> None:
    manifest = Manifest(name="tested", version="1.0.0", inputs=inputs)
    for count in right:
        accept(manifest, RunRequest(input_dataset_ids=["x"] * count), ["cpu"], new_id())
    for count in wrong:
        with pytest.raises(InvalidRequestError) as caught:
            accept(manifest, RunRequest(input_dataset_ids=["x"] * count), ["cpu"], new_id())
        [problem] = caught.value.problems
        assert str(problem) == f"input_dataset_ids: found {count} datasets, tested 1.0.0 takes {allowed}"


def test_all_that_is_wrong_is_told_at_once() -> None:
    manifest = Manifest(name="tested", version="1.0.0", inputs=InputInfo(min_datasets=1))
    request = RunRequest(input_dataset_ids=[], args={"colour": "red"}, device="gpu", timeout_s=61)
    with pytest.raises(InvalidRequestError) as caught:
        accept(manifest, request, ["cpu"], new_id(), 60)
    assert [each.key for each in caught.value.problems] == ["timeout_s", "input_dataset_ids", "device", "args.colour"]


def test_a_tolerant_request_has_unknown_args_left_out_with_a_warning() -> None:
    manifest = Manifest(name="m", version="1.0.0")
    run, warnings = accept(manifest, TolerantRunRequest(input_dataset_ids=[], args={"colour": "red"}), ["cpu"], "id")
    assert run.args == {}
    assert warnings == ["args.colour: unknown and ignored"]


def test_a_device_that_is_missing_is_told_with_what_lacks_it() -> None:
    """A cluster, unless it is said to be something else."""
    both = Manifest(name="m", version="1.0.0", supported_devices=["cpu", "gpu"], default_device="gpu")
    _, warnings = accept(both, RunRequest(input_dataset_ids=[]), ["cpu"], "id", where="this machine")
    assert warnings == ["this machine has no gpu, the default device of m 1.0.0: it runs on the cpu"]
    with pytest.raises(DeviceNotSupportedError, match="but the cluster has none"):
        accept(both, RunRequest(input_dataset_ids=[], device="gpu"), ["cpu"], "id")
