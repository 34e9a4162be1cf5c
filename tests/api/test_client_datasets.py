"""What the client does with datasets, against the real app."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from t3d_server.client import Client
from t3d_server.errors import DatasetNotFoundError, InvalidDatasetError, InvalidRequestError, PayloadTooLargeError
from t3d_server.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


def test_of_a_list_all_or_none_are_stored(server: Server, client: Client, tmp_path: Path) -> None:
    """The one that is wrong is named, be it found here or there."""
    (tmp_path / "broken.png").write_bytes(b"nothing")
    before = len(list(server.store.list("datasets/")))
    with pytest.raises(InvalidDatasetError, match=r"data\[1\]: the dataset cannot be stored"):
        client.upload([IMAGE, IMAGE.astype(complex)])
    with pytest.raises(InvalidDatasetError, match=r"broken\.png: not a readable"):
        client.upload([IMAGE, str(tmp_path / "broken.png")])
    with pytest.raises(InvalidDatasetError, match=r"data\[0\]: 1 was given.*several datasets"):
        client.upload([1, 2, 3])  # type: ignore[list-item]
    with pytest.raises(InvalidDatasetError, match=r"inputs\[1\]: None was given"):  # what a forgotten return gives
        client.submit("probe", [new_id(), None])  # type: ignore[list-item]
    assert len(list(server.store.list("datasets/"))) == before


def test_a_folder_of_slices_is_one_stack(client: Client, tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []
    for index in (2, 10, 1):
        np.save(tmp_path / f"slice{index}.npy", np.full((5, 6), index, np.uint16))
    info = client.upload(tmp_path, spacing=(3, 1, 1), on_progress=lambda *news: sent.append(news))
    assert (info.axes, info.spacing) == ("ZYX", (3, 1, 1))
    assert client.fetch_array(info)[:, 0, 0].tolist() == [1, 2, 10]
    assert sent[-1] == (info.size_bytes, info.size_bytes)
    np.save(tmp_path / "slice11.npy", IMAGE)
    with pytest.raises(InvalidDatasetError, match=r"slice11\.npy: shape"):
        client.upload(tmp_path)


def test_slices_that_are_taken_as_colours_are_warned_of(client: Client, tmp_path: Path) -> None:
    """Where the caller stands, and unless somebody said what they are."""
    stack = np.zeros((4, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", stack, photometric="rgb", planarconfig="separate")
    message = r"taken as one colour image of {} channels; give axes='ZYX' if these are slices"
    with pytest.warns(UserWarning, match=r"scan\.tif: " + message.format(4)) as caught:
        client.upload(tmp_path / "scan.tif")
    with pytest.warns(UserWarning, match="^" + message.format(3)) as more:
        client.submit("probe", stack[:3]).wait()
    assert {warning.filename for warning in [*caught, *more]} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.upload(tmp_path / "scan.tif", axes="ZYX").axes == "ZYX"
        assert client.upload({"image": stack[:3], "axes": "CYX"}).axes == "CYX"
        client.upload([stack, np.zeros((20, 30, 3), np.uint8)])


def test_a_key_that_is_not_there_is_told(client: Client) -> None:
    info = client.upload({"image": IMAGE, "note": "x"})
    with pytest.raises(InvalidRequestError, match=r"has no 'imag'; its keys: .*image"):
        client.fetch(info, "imag")


def test_what_names_no_dataset_is_told(client: Client) -> None:
    for wrong in (IMAGE, None, (each for each in [new_id()])):
        with pytest.raises(InvalidRequestError, match="named by its id or info"):
            client.fetch(wrong)  # type: ignore[call-overload]


def test_a_threshold_is_an_image(client: Client) -> None:
    """Of 0 and 1; what is no image says how to make one."""
    info = client.upload(IMAGE > 5)
    assert info.arrays["image"].dtype == "uint8"
    for array, hint in ((IMAGE.astype(np.int64), "np.int32"), (IMAGE.astype(np.uint32), "np.int32")):
        with pytest.raises(InvalidDatasetError, match=rf"image\.astype\({hint}\)"):
            client.upload(array)


def test_what_is_uploaded_is_fetched(client: Client, tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []
    values: dict[str, Any] = {"image": np.ones((3, 600, 700), np.float32), "note": "x", "names": ["a", "b"]}
    info = client.upload(
        values, axes="ZYX", spacing=(2, 0.65, 0.65), spacing_unit="nm", on_progress=lambda *news: sent.append(news)
    )
    assert (info.axes, info.spacing, info.spacing_unit) == ("ZYX", (2.0, 0.65, 0.65), "nm")
    assert len(sent) > 2
    assert sent[-1] == (info.size_bytes, info.size_bytes)
    sent.clear()
    fetched = client.fetch(info.id, on_progress=lambda *news: sent.append(news))
    assert len(sent) > 2
    assert sent[-1] == (info.size_bytes, info.size_bytes)
    assert np.array_equal(fetched["image"], values["image"])
    assert (fetched["note"], fetched["names"], fetched["axes"]) == ("x", ["a", "b"], "ZYX")
    fetched["image"][:] = 2  # writable
    array = client.fetch_array(info.id)
    assert np.array_equal(array, values["image"])
    array[:] = 2
    path = client.download(info.id, tmp_path)
    assert path == tmp_path / f"{info.id}.h5"
    assert client.upload(path).axes == "ZYX"
    assert list(tmp_path.iterdir()) == [path]
    client.delete(info.id)
    with pytest.raises(DatasetNotFoundError):
        client.download(info.id, tmp_path / "other.h5")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there_is_told_as_such(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "photo")


def test_a_download_makes_the_folders_that_it_needs(client: Client, tmp_path: Path) -> None:
    info = client.upload(np.zeros((2, 3)))
    assert client.download(info, tmp_path / "new" / "x.h5").is_file()


def test_axes_and_spacing_of_a_file_are_told_and_checked(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.zeros((3, 5, 6)))
    info = client.upload(tmp_path / "stack.npy", axes="ZYX", spacing=(2, 1, 1))
    assert (info.axes, info.spacing) == ("ZYX", (2, 1, 1))
    for data in (tmp_path / "stack.npy", np.zeros((3, 5, 6)), {"mask": np.zeros((3, 5, 6), np.uint8)}):
        with pytest.raises(InvalidDatasetError):
            client.upload(data, axes="TYX")


def test_an_array_goes_under_the_key_that_was_asked_for(client: Client) -> None:
    info = client.upload(IMAGE, key="mask")
    assert list(info.arrays) == ["mask"]
    assert np.array_equal(client.fetch_array(info.id, "mask"), IMAGE)


def test_the_servers_limit_is_told(server: Server, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.h5"
    with path.open("wb") as file:
        file.truncate(server.service.limits.max_dataset_bytes + 1)
    with pytest.raises(PayloadTooLargeError):
        client.upload(path)
