"""`t3d_server.testing.run`: what an author's tests and notebooks get."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t3d_server.errors import AlgorithmError, InvalidArgsError, InvalidPackageError, LoadFailedError
from t3d_server.testing import run

WriteAlgorithm = Callable[..., Path]
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
RUNNER = """
from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def inference(self, data, args):
        self.log_message(f"gain {args['gain']}")
        self.set_progress(0.5)
        return data * args["gain"]
"""
TABLE = 'additional_parameters = [{name = "gain", description = "A factor.", config = {type = "int", default = 2}}]'


@pytest.fixture
def gain(write_algorithm: WriteAlgorithm) -> Path:
    return write_algorithm("gain", RUNNER, table=TABLE)


def test_arrays_go_in_and_arrays_come_out(gain: Path, tmp_path: Path) -> None:
    """One array, several, values by key, a file, or a folder of slices; in order."""
    [one] = run(gain, IMAGE)
    np.testing.assert_array_equal(one["image"], IMAGE * 2)

    stack = {"image": np.stack([IMAGE] * 3), "axes": "ZYX", "spacing": (2.0, 0.5, 0.5)}
    first, second = run(str(gain), [IMAGE, stack], {"gain": 3})
    np.testing.assert_array_equal(first["image"], IMAGE * 3)
    assert second["image"].shape == (3, 6, 8)
    assert list(second["spacing"]) == [2.0, 0.5, 0.5]
    first["image"][:] = 0  # may be changed

    np.save(tmp_path / "image.npy", IMAGE)
    [of_file] = run(gain, str(tmp_path / "image.npy"))
    np.testing.assert_array_equal(of_file["image"], IMAGE * 2)
    [of_folder] = run(gain, tmp_path)
    np.testing.assert_array_equal(of_folder["image"], IMAGE[np.newaxis] * 2)


def test_log_and_progress_are_heard(gain: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log goes to `logging` where nobody else hears it."""
    heard: list[object] = []
    run(gain, IMAGE, on_log=lambda line: heard.append((line.level, line.message)), on_progress=heard.append)
    assert heard == [("INFO", "gain 2"), 0.5]

    with caplog.at_level(logging.INFO, "t3d_server.testing"):
        run(gain, IMAGE)
    assert caplog.messages == ["gain 2"]


def test_text_that_is_returned_is_a_warning_and_no_result(write_algorithm: WriteAlgorithm) -> None:
    runner = RUNNER + "\n    def postprocess(self, inference_output, args):\n        return ['done']\n"
    lines: list[tuple[str, str]] = []
    found = run(
        write_algorithm("speaking", runner, table=TABLE),
        IMAGE,
        on_log=lambda line: lines.append((line.level, line.message)),
    )
    assert found == []
    assert lines[-1] == ("WARNING", "postprocess returned text in place of ids of datasets: 'done'")


def test_an_input_may_be_a_result(write_algorithm: WriteAlgorithm) -> None:
    runner = (
        RUNNER.replace("return data *", "return data.copy() *")
        + "\n    def preprocess(self, input_data, args):"
        + "\n        self.ids = input_data['input_dataset_ids']"
        + "\n        return super().preprocess(input_data, args)\n"
        + "\n    def postprocess(self, inference_output, args):"
        + "\n        return [*self.ids, *super().postprocess(inference_output, args)]\n"
    )
    given, made = run(write_algorithm("passing", runner, table=TABLE), IMAGE)
    np.testing.assert_array_equal(given["image"], IMAGE)
    np.testing.assert_array_equal(made["image"], IMAGE * 2)


def test_edits_count_at_the_next_call(gain: Path) -> None:
    """In a notebook, too: in a running event loop, from another folder, while nothing is written beside the code."""

    async def cell() -> int:
        return int(run(gain, IMAGE)[0]["image"][0, 1])

    folder = Path.cwd()
    assert asyncio.run(cell()) == 2
    (gain / "Runner.py").write_text(RUNNER.replace("return data *", "return 5 * data *"))
    assert asyncio.run(cell()) == 10
    assert Path.cwd() == folder
    assert sorted(path.name for path in gain.iterdir()) == ["Runner.py", "pyproject.toml"]


def test_all_args_that_are_wrong_are_told(gain: Path) -> None:
    with pytest.raises(InvalidArgsError) as caught:
        run(gain, IMAGE, {"gain": "much", "gian": 1})
    assert [problem.key for problem in caught.value.problems] == ["args.gian", "args.gain"]


def test_a_failed_run_shows_the_authors_lines(write_algorithm: WriteAlgorithm) -> None:
    failing = write_algorithm("failing", RUNNER.replace('args["gain"]', "nowhere"), table=TABLE)
    with pytest.raises(AlgorithmError, match="failing failed: NameError: name 'nowhere'") as caught:
        run(failing, IMAGE)
    assert str(caught.value).count('File "Runner.py", line 9, in inference') == 1


def test_what_does_not_load_shows_the_authors_lines(write_algorithm: WriteAlgorithm) -> None:
    runner = RUNNER + "\n    def load_assets(self):\n        self.fetch_asset('files/model.pt')\n"
    with pytest.raises(LoadFailedError, match="has no file") as caught:
        run(write_algorithm("unloadable", runner, table=TABLE), IMAGE)
    assert 'File "Runner.py", line 12, in load_assets' in caught.value.__notes__[0]


def test_inputs_are_named_by_their_place(gain: Path) -> None:
    with pytest.raises(AlgorithmError, match=r"input 1: slices of shape \(3, 3\)"):
        run(gain, [IMAGE, IMAGE[:3, :3]])


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackageError):
        run(tmp_path, IMAGE)
