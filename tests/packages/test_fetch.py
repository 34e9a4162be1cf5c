"""Files of a package: in the author's folder, or in a cache of the store."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from t3d_server.errors import InvalidPackageError, ObjectNotFoundError
from t3d_server.models import AlgorithmVersion
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.fetch import Package, fetch_package, folder_package
from t3d_server.storage.memory import MemoryObjectStore

MakeFolder = Callable[..., Path]
Tags = Mapping[str, Mapping[str, str]]
FILES = {"files/model.pt": b"weights", "files/helper.py": "x = 1", "notes.txt": "t", "README.md": "r"}


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def version(store: MemoryObjectStore, make_folder: MakeFolder, tags: Tags) -> AlgorithmVersion:
    return store_package(store, build(make_folder(FILES), tags=tags))


@pytest.fixture(params=["folder", "fetched"])
def package(
    request: pytest.FixtureRequest, store: MemoryObjectStore, version: AlgorithmVersion, tmp_path: Path
) -> Package:
    if request.param == "folder":
        return folder_package(tmp_path / "algorithm")
    return fetch_package(store, version, tmp_path / "cache")


def test_code_and_assets_are_there(package: Package) -> None:
    assert (package.folder / "Runner.py").exists()
    assert package.asset("files/model.pt").read_bytes() == b"weights"
    assert "foo" in package.asset("pyproject.toml").read_text()


@pytest.mark.parametrize("path", ["./files/model.pt", "files//model.pt", "files\\model.pt", Path("files/model.pt")])
def test_an_asset_path_is_understood_in_every_spelling(package: Package, path: str) -> None:
    assert package.asset(path).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("files/modell.pt", "no file 'files/modell.pt'; did you mean 'files/model.pt'?"),
        ("weights.h5", "; there are: files/model.pt, notes.txt"),
        ("../algorithm/notes.txt", "leaves the algorithm folder"),
        ("/etc/passwd", "leaves the algorithm folder"),
        ("files/helper.py", "is code"),
    ],
)
def test_an_asset_that_is_not_there_is_answered_with_what_is(package: Package, path: str, message: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        package.asset(path)
    assert message in str(caught.value)


def test_assets_are_fetched_when_they_are_asked_for(
    store: MemoryObjectStore, version: AlgorithmVersion, tmp_path: Path
) -> None:
    package = fetch_package(store, version, tmp_path / "cache")
    assert not (tmp_path / "cache/assets").exists()
    first = package.asset("files/model.pt")
    store.delete(f"assets/{version.assets['files/model.pt']}")
    store.delete(f"modules/{version.module_sha256}.zip")
    assert fetch_package(store, version, tmp_path / "cache").asset("files/model.pt") == first
    assert first == tmp_path / "cache/assets" / hashlib.sha256(b"weights").hexdigest()


def test_several_may_fetch_into_one_cache_at_once(
    store: MemoryObjectStore, version: AlgorithmVersion, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(16) as pool:
        packages = list(pool.map(lambda _: fetch_package(store, version, tmp_path / "cache"), range(16)))
        assert len(set(pool.map(lambda one: one.asset("files/model.pt"), packages))) == 1
    assert len({one.folder for one in packages}) == 1
    left = {path.relative_to(tmp_path / "cache").parts[1] for path in (tmp_path / "cache").glob("*/*")}
    assert left == {version.module_sha256, version.assets["files/model.pt"]}


def test_damaged_content_is_refused_and_leaves_nothing(
    store: MemoryObjectStore, version: AlgorithmVersion, tmp_path: Path
) -> None:
    package = fetch_package(store, version, tmp_path / "cache")
    store.put(f"assets/{version.assets['files/model.pt']}", b"other")
    with pytest.raises(InvalidPackageError, match="damaged"):
        package.asset("files/model.pt")
    store.put(f"modules/{version.module_sha256}.zip", b"other")
    with pytest.raises(InvalidPackageError, match="damaged"):
        fetch_package(store, version, tmp_path / "second")
    assert list((tmp_path / "cache/assets").iterdir()) == []
    assert list((tmp_path / "second/modules").iterdir()) == []


def test_an_unsafe_archive_leaves_nothing(store: MemoryObjectStore, version: AlgorithmVersion, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Runner.py", "")
        archive.writestr("../../escaped.py", "")
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    store.put(f"modules/{sha256}.zip", buffer.getvalue())
    with pytest.raises(InvalidPackageError, match="unsafe"):
        fetch_package(store, version.model_copy(update={"module_sha256": sha256}), tmp_path / "cache")
    assert list((tmp_path / "cache/modules").iterdir()) == []
    assert not list(tmp_path.rglob("escaped.py"))


def test_a_module_that_is_not_stored_is_an_error(version: AlgorithmVersion, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        fetch_package(MemoryObjectStore(), version, tmp_path / "cache")
