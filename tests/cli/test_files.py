"""What the commands take as inputs, and results as files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from t3d_server.cli.files import check_inputs, naming, result_stems, save_dataset
from t3d_server.datasets import formats, hdf5
from t3d_server.errors import InvalidDatasetError, InvalidRequestError, Problem, UnsupportedMediaTypeError
from t3d_server.ids import new_id

if TYPE_CHECKING:
    from tests.conftest import Server


def dataset(folder: Path, source: Path) -> dict[str, Any]:
    """The values that a file becomes, as they come out of the store."""
    formats.convert(source, formats.guess_content_type(source), folder / "dataset.h5", max_bytes=10**8)
    return hdf5.read(folder / "dataset.h5")


def test_an_imagej_stack_with_spacing_goes_through(tmp_path: Path) -> None:
    stack = np.arange(4 * 8 * 9, dtype=np.uint16).reshape(4, 8, 9)
    tifffile.imwrite(
        tmp_path / "ij.tif",
        stack,
        imagej=True,
        resolution=(1 / 0.65, 1 / 0.65),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )
    values = dataset(tmp_path, tmp_path / "ij.tif")
    values["mask"] = (stack > 9).astype(np.int32)

    image, mask, rest = save_dataset(values, tmp_path / "out", "ij", formats.TIFF)

    assert [path.name for path in (image, mask, rest)] == ["ij-image.tif", "ij-mask.tif", "ij.json"]
    for path, expected in ((image, stack), (mask, values["mask"])):
        again = dataset(tmp_path, path)
        np.testing.assert_array_equal(again["image"], expected)
        assert again["axes"] == "ZYX"
        np.testing.assert_allclose(again["spacing"], (2, 0.65, 0.65), rtol=1e-5)


def test_a_mask_alone_is_a_stack_of_its_own_spacing(tmp_path: Path) -> None:
    """However narrow: the 3 of its last axis is no colour."""
    mask = np.ones((5, 6, 3), np.uint8)
    [path, _] = save_dataset({"mask": mask, "spacing": np.array([3.0, 2, 1])}, tmp_path, "x", formats.PNG)
    again = dataset(tmp_path, path)
    assert (path.suffix, again["axes"], again["spacing"].tolist()) == (".tif", "ZYX", [3, 2, 1])


@pytest.mark.parametrize("array", [np.eye(5, dtype=np.uint8), np.full((5, 6, 3), 9, np.uint8)])
def test_a_png_stays_a_png(tmp_path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    path = save_dataset(dataset(tmp_path, tmp_path / "a.png"), tmp_path / "out", "a", formats.PNG)[0]
    assert path.suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), array)


def test_npy_stays_npy_and_short_lists_are_json(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(5))
    values = dataset(tmp_path, tmp_path / "a.npy") | {"input_size": np.array([6, 8]), "features": np.ones(64, "f4")}
    paths = save_dataset(values, tmp_path / "out", "a", formats.NPY)
    assert [path.name for path in paths] == ["a-image.npy", "a-features.npy", "a.json"]
    np.testing.assert_array_equal(np.load(paths[0]), np.eye(5))
    assert '"input_size": [\n    6,\n    8\n  ]' in paths[-1].read_text()


def test_hdf5_stays_hdf5(tmp_path: Path) -> None:
    values = {"image": np.eye(5), "axes": "YX", "spacing": np.array([1.0, 2.0]), "note": "x"}
    [path] = save_dataset(values, tmp_path / "out", "a", formats.HDF5)
    assert dataset(tmp_path, path).keys() == values.keys()


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "encode_array", breaks)
    with pytest.raises(OSError, match="No space left"):
        save_dataset({"image": np.eye(5)}, tmp_path, "a", formats.TIFF)
    assert list(tmp_path.iterdir()) == []


def test_results_are_named_after_their_inputs(tmp_path: Path) -> None:
    """Where that names them: one for each, and of different names."""
    (tmp_path / "scan.1").mkdir()
    assert result_stems([str(tmp_path / "scan.1"), "b.tif"], "x", 2) == ["scan.1-x", "b-x"]
    assert result_stems(["a.tif", "b.tif"], "x", 1) == ["x-0"]
    assert result_stems(["1/a.tif", "2/a.tif"], "x", 2) == ["x-0", "x-1"]


@pytest.mark.usefixtures("probe")
def test_a_folder_of_slices_gives_a_stack(server: Server, tmp_path: Path) -> None:
    """From `t3d run`, beside a file."""
    (tmp_path / "scan").mkdir()
    for index in (1, 2, 10):
        Image.fromarray(np.full((5, 6), index, np.uint8)).save(tmp_path / "scan" / f"{index}.png")
    np.save(tmp_path / "one.npy", np.ones((5, 6), np.uint8))
    command = [server.command, "run", "probe", "scan", "one.npy", "-a", "mode=identity"]
    subprocess.run(command, env=server.environment, cwd=tmp_path, check=True, timeout=60)
    stack = dataset(tmp_path, tmp_path / "t3d-output" / "scan-probe-image.tif")
    assert (stack["image"][:, 0, 0].tolist(), stack["axes"]) == ([1, 2, 10], "ZYX")
    assert (tmp_path / "t3d-output" / "one-probe-image.tif").exists()


def test_inputs_that_are_not_there_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    check_inputs([str(tmp_path / "a.png"), new_id()], ids=True)
    with pytest.raises(InvalidRequestError) as told:
        check_inputs(["nothere.png", "01a2-not-an-id", str(tmp_path)], ids=True)
    assert told.value.message.split("; ") == [
        "nothere.png: no such file",
        "01a2-not-an-id: neither a file nor a dataset id",
        f"{tmp_path}: a folder, not a file",
    ]
    check_inputs([str(tmp_path)], ids=True, folders=True)
    with pytest.raises(InvalidRequestError, match="no such file"):
        check_inputs([new_id()], ids=False)
    (tmp_path / "a.czi").touch()
    with pytest.raises(UnsupportedMediaTypeError, match=r"a\.czi"):
        check_inputs([str(tmp_path / "a.czi")], ids=True)


def test_errors_name_files_and_not_their_ids() -> None:
    first, second = new_id(), new_id()
    error = InvalidDatasetError(f"{first} is odd", problems=[Problem(second, "too")], traceback=f"at {first}")
    with pytest.raises(InvalidDatasetError) as told, naming({first: "a.png", second: "b.png"}):
        raise error
    assert str(told.value) == "a.png is odd\n  - b.png: too"
    assert told.value.traceback == "at a.png"
