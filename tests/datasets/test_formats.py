"""What goes in through one format comes out of it again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from t3d_server.datasets import conversion, formats, hdf5, inspection
from t3d_server.errors import UnsupportedMediaTypeError

MAX_BYTES = 100_000_000
SIDES = st.integers(5, 9)
# What tifffile takes by itself for a leading 3 or 4.
PLANES = {"photometric": "rgb", "planarconfig": "separate"}


def taken(folder: Path, name: str, **options: Any) -> dict[str, Any]:
    """The values that a file becomes."""
    source, destination = folder / name, folder / "dataset.h5"
    conversion.convert(source, formats.by_suffix(source).media_type, destination, max_bytes=MAX_BYTES, **options)
    values = hdf5.read(destination)
    destination.unlink()
    assert not [path for path in folder.iterdir() if path.is_dir()], "temporary files are left"
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@st.composite
def images(draw: st.DrawFn, dtypes: list[str]) -> tuple[Any, str]:
    axes = draw(st.sampled_from(["YX", "YXC", "CYX", "ZYX", "ZYXC"]))
    shape = tuple(draw(st.sampled_from([3, 4]) if axis == "C" else SIDES) for axis in axes)
    return draw(hnp.arrays(draw(st.sampled_from(dtypes)), shape)), axes


@given(images(["u1", "i2", "u2", "i4", "f4", "f8"]), st.booleans())
@settings(max_examples=60)
def test_tiff_keeps_pixels_axes_and_spacing(folder: Path, image: tuple[Any, str], spaced: bool) -> None:
    array, axes = image
    spacing = (2.0, 0.5, 0.25)[-len(axes.replace("C", "")) :] if spaced else None
    with (folder / "a.tif").open("wb") as file:
        conversion.encode_array(array, formats.TIFF, file, axes=axes, spacing=spacing, spacing_unit="nm")
    values = taken(folder, "a.tif")
    np.testing.assert_array_equal(values["image"], array)
    assert values["image"].dtype == array.dtype
    assert values["axes"] == axes
    assert tuple(values.get("spacing", ())) == (spacing or ())
    assert values.get("spacing_unit") == ("nm" if spaced else None)


@given(images(["u1", "i2", "u2", "i4", "f2", "f4", "f8", ">u2"]), st.booleans())
@settings(max_examples=40)
def test_npy_and_npz_keep_arrays(folder: Path, image: tuple[Any, str], fortran: bool) -> None:
    array, axes = image
    array = np.asfortranarray(array) if fortran else array
    np.save(folder / "a.npy", array)
    np.savez_compressed(folder / "a.npz", image=array, note=np.array("hi"))
    for name in ("a.npy", "a.npz"):
        values = taken(folder, name, axes=axes)
        np.testing.assert_array_equal(values["image"], array)
        assert values["image"].dtype == array.dtype.newbyteorder("=")
        assert values["axes"] == axes
    assert values["note"] == "hi"


@given(hnp.arrays("u1", st.tuples(SIDES, SIDES) | st.tuples(SIDES, SIDES, st.sampled_from([3, 4]))))
@settings(max_examples=30)
def test_png_keeps_pixels(folder: Path, array: Any) -> None:
    for pixels in (array, array.astype(np.uint16) * 257) if array.ndim == 2 else (array,):
        with (folder / "a.png").open("wb") as file:
            conversion.encode_array(pixels, formats.PNG, file)
        values = taken(folder, "a.png")
        np.testing.assert_array_equal(values["image"], pixels)
        assert values["image"].dtype == pixels.dtype
    if array.ndim == 3:
        with (folder / "a.png").open("wb") as file:
            conversion.encode_array(np.moveaxis(array, -1, 0), formats.PNG, file, axes="CYX")
        np.testing.assert_array_equal(taken(folder, "a.png")["image"], array)


@pytest.mark.parametrize(
    ("options", "axes", "spacing", "unit"),
    [
        ({"imagej": True, "metadata": {"axes": "ZYX", "spacing": 3.0, "unit": "micron"}}, "ZYX", (3.0, 0.5, 0.5), "um"),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, "ZYX", None, None),
        ({"metadata": None, "photometric": "minisblack"}, "ZYX", None, None),
        ({"metadata": {"axes": "ZYX"}, "compression": "zlib", "tile": (16, 16)}, "ZYX", None, None),
        ({"metadata": None, "byteorder": ">", "bigtiff": True, "photometric": "minisblack"}, "ZYX", None, None),
    ],
    ids=["imagej", "imagej without unit", "pages", "tiles", "big-endian"],
)
def test_a_multi_page_tiff_is_one_stack(
    tmp_path: Path, options: dict[str, Any], axes: str, spacing: tuple[float, ...] | None, unit: str | None
) -> None:
    array = np.arange(5 * 20 * 30, dtype=np.uint16).reshape(5, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", array, resolution=(2, 2), **options)
    values = taken(tmp_path, "a.tif")
    np.testing.assert_array_equal(values["image"], array)
    assert values["axes"] == axes
    assert (tuple(values["spacing"]) if "spacing" in values else None) == spacing
    assert values.get("spacing_unit") == unit


@pytest.mark.parametrize(("shape", "axes"), [((20, 30), "ZYX"), ((20, 30, 3), "ZYXC")])
def test_pages_that_were_written_one_by_one_are_one_stack(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    array = np.arange(4 * math.prod(shape), dtype=np.uint16).reshape(4, *shape)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in array:
            writer.write(page)
    values = taken(tmp_path, "a.tif")
    np.testing.assert_array_equal(values["image"], array)
    assert values["axes"] == axes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PLANES, False),
        (PLANES | {"metadata": None}, False),
        (PLANES | {"metadata": {"axes": "CYX"}}, True),
        ({"imagej": True}, True),
        ({"ome": True, "metadata": {"axes": "CYX"}}, True),
    ],
    ids=["default", "plain", "axes", "imagej", "ome"],
)
def test_a_tiff_may_leave_open_whether_its_planes_are_colours(
    tmp_path: Path, options: dict[str, Any], said: bool
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 20, 30), "u1"), **options)
    assert taken(tmp_path, "a.tif")["axes"] == "CYX"
    assert formats.by_suffix(tmp_path / "a.tif").states_axes(tmp_path / "a.tif") is said


def test_other_files_say_their_axes_or_do_not(tmp_path: Path) -> None:
    image = np.zeros((3, 20, 30), "u1")
    np.save(tmp_path / "a.npy", image)
    np.savez(tmp_path / "a.npz", image=image)
    np.savez(tmp_path / "said.npz", image=image, axes="CYX")
    hdf5.write(tmp_path / "said.h5", {"image": image})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = image
    said = {path.name for path in tmp_path.iterdir() if formats.by_suffix(path).states_axes(path)}
    assert said == {"said.npz", "said.h5"}


@pytest.mark.parametrize(("unit", "spacing"), [("CENTIMETER", [2.5, 1.0]), ("INCH", None)])
def test_resolution_counts_in_centimetres_only(tmp_path: Path, unit: str, spacing: list[float] | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), "u1"), resolution=(10_000, 4_000), resolutionunit=unit)
    values = taken(tmp_path, "a.tif")
    assert (values["spacing"].tolist() if "spacing" in values else None) == spacing


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (4, 5), "uint8"),
        ("L", (4, 5), "uint8"),
        ("P", (4, 5, 3), "uint8"),
        ("LA", (4, 5, 4), "uint8"),
        ("RGBA", (4, 5, 4), "uint8"),
        ("I;16", (4, 5), "uint16"),
    ],
)
def test_each_kind_of_png_has_its_array(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: str) -> None:
    image = Image.new("RGB", (5, 4), "white").convert(mode) if mode != "I;16" else Image.new(mode, (5, 4), 65535)
    image.save(tmp_path / "a.png")
    array = taken(tmp_path, "a.png")["image"]
    assert (array.shape, array.dtype.name) == (shape, dtype)
    assert array.max() == {"1": 1, "I;16": 65535}.get(mode, 255)


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (5, 4)).save(tmp_path / "a.jpg")
    assert taken(tmp_path, "a.jpg")["image"].shape == (4, 5, 3)


def test_a_picture_beyond_pillows_own_limit_is_read(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    conversion.convert(tmp_path / "a.png", "image/png; x=y", tmp_path / "a.h5", max_bytes=300_000_000)
    assert inspection.inspect(tmp_path / "a.h5", max_bytes=300_000_000).arrays["image"].shape == (10_000, 20_000)


def test_labels_of_any_integer_come_in_under_another_key(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((5, 9, 9), 2**31, "u4"), photometric="minisblack")
    assert taken(tmp_path, "a.tif", key="mask")["mask"].dtype == np.uint32


def test_hdf5_is_taken_as_it_is_and_what_its_sender_says_is_written_into_a_copy(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"image": np.zeros((3, 8, 9), "u1"), "spacing": [1, 1]})
    before = (tmp_path / "a.h5").read_bytes()
    conversion.convert(tmp_path / "a.h5", "application/octet-stream", tmp_path / "same.h5", max_bytes=MAX_BYTES)
    assert (tmp_path / "same.h5").read_bytes() == before
    values = taken(tmp_path, "a.h5", axes="zyx", spacing=(3, 1, 1), spacing_unit="nm")
    assert values["axes"] == "ZYX"
    assert values["spacing"].tolist() == [3, 1, 1]
    assert values["spacing_unit"] == "nm"
    assert (tmp_path / "a.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("array", "media_type", "message"),
    [
        (np.zeros((9, 9), "f4"), formats.PNG, "take image/tiff or application/x-npy"),
        (np.zeros((5, 9, 9), "u1"), formats.PNG, "of axes ZYX"),
        (np.zeros((9, 9, 3), "u2"), formats.PNG, "take image/tiff"),
        (np.zeros(9, "u1"), formats.TIFF, "application/x-npy takes any array"),
        (np.zeros((0, 9), "u1"), formats.PNG, "empty.*application/x-npy takes any"),
        (np.zeros((0, 9), "u1"), formats.TIFF, "empty.*application/x-npy takes any"),
        (np.zeros((9, 9), "f2"), formats.TIFF, "application/x-npy takes any"),
        (np.zeros((9, 9), "u1"), formats.JPEG, "application/x-npy, image/tiff, image/png are"),
    ],
)
def test_a_format_that_cannot_hold_an_array_names_one_that_can(
    tmp_path: Path, array: Any, media_type: str, message: str
) -> None:
    with (tmp_path / "a").open("wb") as file, pytest.raises(UnsupportedMediaTypeError, match=message):
        conversion.encode_array(array, media_type, file)


@pytest.mark.parametrize(
    ("name", "message"), [("a.czi", r"the format '\.czi' is not read; \.h5"), ("scan", "has no extension")]
)
def test_an_unknown_extension_is_told(name: str, message: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=message):
        formats.by_suffix(Path(name))


def test_each_row_of_the_table_has_names_of_its_own_and_ends_in_a_format_that_takes_any_array() -> None:
    names = [name for row in formats.FORMATS for name in (row.media_type, *row.aliases, *row.suffixes)]
    assert len(names) == len(set(names))
    assert all(row.holds_dataset or row.written_as()[-1].header for row in formats.FORMATS)
