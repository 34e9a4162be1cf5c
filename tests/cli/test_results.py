"""Results as files."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from t3d_server.cli.results import check_output, remove_last, save_dataset, save_results
from t3d_server.datasets import conversion, formats, hdf5
from t3d_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from tests.conftest import Server


def dataset(folder: Path, source: Path) -> dict[str, Any]:
    """The values that a file becomes, as they come out of the store."""
    conversion.convert(source, formats.by_suffix(source).media_type, folder / "dataset.h5", max_bytes=10**8)
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

    image, mask, picture = save_dataset(values, tmp_path, "ij", formats.TIFF)

    assert [path.name for path in (image, mask, picture)] == ["ij-image.tif", "ij-mask.tif", "ij-mask-picture.png"]
    for path, expected in ((image, stack), (mask, values["mask"])):
        again = dataset(tmp_path, path)
        np.testing.assert_array_equal(again["image"], expected)
        assert again["axes"] == "ZYX"
        np.testing.assert_allclose(again["spacing"], (2, 0.65, 0.65), rtol=1e-5)


def test_a_mask_alone_is_a_stack_of_its_own_spacing(tmp_path: Path) -> None:
    """However narrow: the 3 of its last axis is no colour."""
    mask = np.ones((5, 6, 3), np.uint8)
    path, _ = save_dataset({"mask": mask, "spacing": np.array([3.0, 2, 1])}, tmp_path, "x", formats.PNG)
    again = dataset(tmp_path, path)
    assert (path.suffix, again["axes"], again["spacing"].tolist()) == (".tif", "ZYX", [3, 2, 1])


@pytest.mark.parametrize("array", [np.eye(5, dtype=np.uint8), np.full((5, 6, 3), 9, np.uint8)])
def test_a_png_stays_a_png(tmp_path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    [path] = save_dataset(dataset(tmp_path, tmp_path / "a.png"), tmp_path, "a", formats.PNG)
    assert path.suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), array)


def test_what_a_png_cannot_hold_becomes_one_tiff(tmp_path: Path) -> None:
    values = {
        "image": np.linspace(0, 1, 30).reshape(5, 6),
        "axes": "YX",
        "spacing": np.array([3.0, 2]),
        "spacing_unit": "nm",
    }
    [path] = save_dataset(values, tmp_path, "a", formats.PNG)
    again = dataset(tmp_path, path)
    assert (path.suffix, again["spacing"].tolist(), again["spacing_unit"]) == (".tif", [3, 2], "nm")
    np.testing.assert_array_equal(again["image"], values["image"])


def test_what_no_array_tells_is_in_a_json_file(tmp_path: Path) -> None:
    """Such as the spacing of a PNG, and axes that the shape of an npy does not suggest."""
    values = {"image": np.zeros((5, 6, 3), np.uint8), "axes": "ZYX", "spacing": np.array([3.0, 2, 1])}
    assert [path.suffix for path in save_dataset(values, tmp_path, "a", formats.NPY)] == [".npy", ".json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"axes": "ZYX", "spacing": [3, 2, 1]}
    values = {"image": np.zeros((5, 6), np.uint8), "axes": "YX", "spacing": np.array([3.0, 2])}
    assert [path.suffix for path in save_dataset(values, tmp_path, "b", formats.PNG)] == [".png", ".json"]
    assert json.loads((tmp_path / "b.json").read_text()) == {"spacing": [3, 2]}


@pytest.mark.parametrize(("kind", "suffix"), [(formats.PNG, ".tif"), (formats.TIFF, ".tif"), (formats.NPY, ".npy")])
def test_a_mask_is_data_and_a_picture_that_can_be_seen(tmp_path: Path, kind: str, suffix: str) -> None:
    mask = np.eye(5, dtype=np.int64)
    files = save_dataset({"mask": mask}, tmp_path, "a", kind)
    assert {path.name: what for path, what in files.items()} == {
        f"a-mask{suffix}": "labels",
        "a-mask-picture.png": "picture of the labels",
    }
    path = tmp_path / f"a-mask{suffix}"
    np.testing.assert_array_equal(np.load(path) if suffix == ".npy" else tifffile.imread(path), mask)
    picture = np.asarray(Image.open(tmp_path / "a-mask-picture.png")).max(axis=-1)
    np.testing.assert_array_equal(picture == 255, mask == 1)
    np.testing.assert_array_equal(picture == 0, mask == 0)


def test_numbers_that_json_lacks_are_text(tmp_path: Path) -> None:
    values = {"mean": math.nan, "range": np.array([-math.inf, 1.0]), "limits": [1, [math.inf]], "count": 2}
    save_dataset(values, tmp_path, "a", formats.PNG)
    saved = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert saved == {"mean": "nan", "range": ["-inf", 1.0], "limits": [1, ["inf"]], "count": 2}


def test_npy_stays_npy_and_short_lists_are_json(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(5))
    values = dataset(tmp_path, tmp_path / "a.npy") | {"input_size": np.array([6, 8]), "features": np.ones(64, "f4")}
    paths = list(save_dataset(values, tmp_path, "a", formats.NPY))
    assert [path.name for path in paths] == ["a-image.npy", "a-features.npy", "a.json"]
    np.testing.assert_array_equal(np.load(paths[0]), np.eye(5))
    assert '"input_size": [\n    6,\n    8\n  ]' in paths[-1].read_text()


def test_hdf5_stays_hdf5(tmp_path: Path) -> None:
    values = {"image": np.eye(5), "axes": "YX", "spacing": np.array([1.0, 2.0]), "note": "x"}
    [path] = save_dataset(values, tmp_path, "a", formats.HDF5)
    assert dataset(tmp_path, path).keys() == values.keys()


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "encode_array", breaks)
    with pytest.raises(OSError, match="No space left"):
        save_results([{"image": np.eye(5)}], ["a.tif"], "x", tmp_path, algorithm_type="Image2Image", force=False)
    assert list(tmp_path.iterdir()) == []


def test_results_that_are_there_are_replaced_by_force_alone(tmp_path: Path) -> None:
    """All of them are told, and none of the others is written."""
    values = {"image": np.zeros((4, 5), np.uint8), "mask": np.zeros((4, 5), np.uint8)}
    image, mask, picture = save_results([values], ["a.tif"], "x", tmp_path, algorithm_type="Image2Image", force=False)
    picture.unlink()
    image.write_text("old")
    with pytest.raises(InvalidRequestError, match=r"--force.*-o") as told:
        save_results([values], ["a.tif"], "x", tmp_path, algorithm_type="Image2Image", force=False)
    assert [problem.key for problem in told.value.problems] == [str(image), str(mask)]
    assert (image.read_text(), sorted(tmp_path.iterdir())) == ("old", [image, mask])
    save_results([values], ["a.tif"], "x", tmp_path, algorithm_type="Image2Image", force=True)
    assert image.read_bytes() != b"old"
    assert picture.exists()


@pytest.mark.parametrize("name", ["a-x-image.tif", "a-x-mask-picture.png", "b-x.h5", "a-x.json"])
def test_results_that_would_be_in_the_way_are_told_before_a_run(tmp_path: Path, name: str) -> None:
    """Those of other inputs and algorithms are not."""
    inputs = ["a.tif", "in/b.h5"]
    for other in ("c-x-image.tif", "a-y-image.tif", "a-x-y-image.tif", "a-x.h5.txt", "aa-x.h5"):
        (tmp_path / other).touch()
    check_output(inputs, "x", tmp_path / "new", force=False)
    check_output(inputs, "x", tmp_path, force=False)
    (tmp_path / name).touch()
    with pytest.raises(InvalidRequestError, match=f"{re.escape(name)}: is there already"):
        check_output(inputs, "x", tmp_path, force=False)
    check_output(inputs, "x", tmp_path, force=True)
    with pytest.raises(InvalidRequestError, match="is a file"):
        check_output(inputs, "x", tmp_path / name, force=True)


def test_results_are_named_after_their_inputs(tmp_path: Path) -> None:
    """Where that names them: one for each, and of different names."""
    folder, out = tmp_path / "scan.1", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.npy", "scan.1/a.png"):
        (tmp_path / name).touch()
    a, b, other = (str(tmp_path / name) for name in ("a.png", "b.npy", "scan.1/a.png"))

    def names(count: int, *inputs: str, kind: str = "Image2Image") -> list[str]:
        result = {"image": np.zeros((4, 5), np.uint8), "axes": "YX"}
        saved = save_results([result] * count, inputs, "x", out, algorithm_type=kind, force=True)
        return [path.name for path in saved]

    assert names(3, str(folder), a, b) == ["scan.1-x-image.tif", "a-x-image.png", "b-x-image.npy"]
    assert names(1, a, b) == ["x-0-image.png"]
    assert names(2, a, other) == ["x-0-image.png", "x-1-image.png"]
    assert names(2, a, b, kind="Generic") == ["x-0-image.png", "x-1-image.png"]
    assert names(1, a, kind="Generic") == ["a-x-image.png"]


def test_results_of_a_run_without_inputs_are_numbered(tmp_path: Path) -> None:
    result = {"image": np.zeros((4, 5), np.uint8), "axes": "YX"}
    check_output([], "x", tmp_path, force=False)
    for kind in ("Generic", "Image2Image", None):
        saved = save_results([result] * 2, [], "x", tmp_path, algorithm_type=kind, force=True)
        assert [path.name for path in saved] == ["x-0-image.png", "x-1-image.png"]
    assert save_results([], [], "x", tmp_path, algorithm_type=None, force=False) == {}


def test_files_of_the_last_time_are_removed_and_no_others(tmp_path: Path) -> None:
    record = tmp_path / ".record"

    def write(*names: str) -> None:
        for name in names:
            (tmp_path / name).touch()
        remove_last([tmp_path / name for name in names], record)

    (tmp_path / "other.png").touch()
    write("a.png", "b.png", "c.png")
    (tmp_path / "b.png").write_text("edited")
    os.utime(tmp_path / "b.png", (1, 1))
    write("c.png", "d.png")
    assert {path.name for path in tmp_path.iterdir()} == {"other.png", "b.png", "c.png", "d.png", record.name}


@pytest.mark.usefixtures("probe")
def test_a_folder_of_slices_gives_a_stack(server: Server, tmp_path: Path) -> None:
    """From `t3d run`, beside a file."""
    (tmp_path / "scan").mkdir()
    for index in (1, 2, 10):
        Image.fromarray(np.full((5, 6), index, np.uint8)).save(tmp_path / "scan" / f"{index}.png")
    np.save(tmp_path / "one.npy", np.ones((5, 6), np.uint8))
    command = [server.command, "run", "probe", "scan", "one.npy", "-a", "mode=identity"]
    subprocess.run(command, env=server.environment, cwd=tmp_path, check=True, timeout=200)
    stack = dataset(tmp_path, tmp_path / "t3d-output" / "scan-probe-image.tif")
    assert (stack["image"][:, 0, 0].tolist(), stack["axes"]) == ([1, 2, 10], "ZYX")
    assert (tmp_path / "t3d-output" / "one-probe-image.npy").exists()
