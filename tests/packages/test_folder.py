"""Which files belong to an algorithm folder, and how it is put together from blobs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from t3d_server.errors import InvalidPackageError, MissingBlobsError, PayloadTooLargeError
from t3d_server.packages.folder import check_paths, is_part, materialise, scan
from t3d_server.storage.memory import MemoryObjectStore

MakeFolder = Callable[..., Path]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files_are_found_and_droppings_are_not(make_folder: MakeFolder) -> None:
    folder = make_folder(
        {
            "files/model.pt": b"\0",
            "sub/module.py": "",
            "__pycache__/Runner.cpython-311.pyc": b"",
            "sub/old.pyc": b"",
            ".git/config": "",
            ".gitignore": "",
            ".mypy_cache/x.json": "",
            ".env": "SECRET=1",
            "my_env/pyvenv.cfg": "",
            "my_env/lib/thing.py": "",
        }
    )
    files, warnings = scan(folder)
    assert list(files) == ["Runner.py", "files/model.pt", "pyproject.toml", "sub/module.py"]
    assert files["files/model.pt"] == folder / "files" / "model.pt"
    assert warnings == []


def test_tests_results_and_backups_are_left_out(make_folder: MakeFolder) -> None:
    left_out = [
        "tests/test_a.py",
        "tests/data/a.tif",
        "t3d-output/a.png",
        "Runner.py~",
        "#Runner.py#",
        ".Runner.py.swp",
    ]
    parts = ["files/tests/test_a.py", "files/t3d-output", "attests/a.py"]
    folder = make_folder(dict.fromkeys([*left_out, *parts, "files/env/pyvenv.cfg", "files/env/a.py"], ""))
    files, _ = scan(folder)
    assert files.keys() == {"Runner.py", "pyproject.toml", *parts}
    every = [path for path in folder.rglob("*") if path.is_file()]
    assert {path for path in every if is_part(folder, path)} == set(files.values())


def test_a_folder_tests_without_tests_is_a_part(make_folder: MakeFolder) -> None:
    assert "tests/helper.py" in scan(make_folder({"tests/helper.py": ""}))[0]
    assert "tests/helper.py" not in scan(make_folder({"tests/helper_test.py": ""}))[0]


def test_links_and_other_entries_are_left_out_with_a_warning(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"files/.hidden": "", ".config/x": ""})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("")
    (folder / "to_file").symlink_to(tmp_path / "outside/secret")
    (folder / "to_folder").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    files, warnings = scan(folder)
    assert list(files) == ["Runner.py", "pyproject.toml"]
    assert warnings == [
        ".config: left out, as its name begins with a dot",
        "files/.hidden: left out, as its name begins with a dot",
        "pipe: not a plain file, left out",
        "to_file: a link, left out; put the file itself there",
        "to_folder: a link, left out; put the file itself there",
    ]


def test_a_folder_without_runner_is_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(InvalidPackageError) as caught:
        scan(make_folder({"Runner.py": None, "runner.py": ""}))
    assert [str(problem) for problem in caught.value.problems] == ["Runner.py: is missing; did you mean 'runner.py'?"]


@pytest.mark.parametrize("limits", [{"max_files": 1}, {"max_bytes": 10}])
def test_a_folder_over_a_limit_is_refused(make_folder: MakeFolder, limits: dict[str, int]) -> None:
    with pytest.raises(PayloadTooLargeError):
        scan(make_folder(), **limits)


UNSAFE = [
    "../Runner.py",
    "files/../../x",
    "/etc/passwd",
    "./x",
    "files//x",
    "files/",
    "",
    "files\\x",
    "C:/x",
    "c:x",
    "a\0b",
    "a\nb",
    "\udcff",
    "x" * 256,
    "x/" * 600 + "x",
]


@pytest.mark.parametrize("path", UNSAFE)
def test_an_unsafe_path_is_refused(path: str) -> None:
    assert len(check_paths([path])) == 1


@pytest.mark.parametrize("paths", [["a", "A"], ["caf\u00e9", "cafe\u0301"], ["a", "a/b"], ["A/x", "a"]])
def test_paths_that_cannot_both_be_files_are_refused(paths: list[str]) -> None:
    assert len(check_paths(paths)) == 1


def test_ordinary_paths_are_accepted() -> None:
    assert check_paths(["Runner.py", "files/a b (1).tif", "files/\u7d30\u80de.png", "files/..x", "a\u202fb"]) == []


def test_a_folder_is_put_together_from_blobs(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    for content in (b"code", b"weights"):
        store.put(f"blobs/{sha256(content)}", content)
    files = {"Runner.py": sha256(b"code"), "files/a/b.pt": sha256(b"weights"), "files/c.pt": sha256(b"weights")}
    materialise(store, files, tmp_path / "new")
    written = {path.relative_to(tmp_path / "new").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(files)
    assert (tmp_path / "new/files/a/b.pt").read_bytes() == b"weights"


def test_an_asset_of_a_version_need_not_be_uploaded(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store.put(f"blobs/{sha256(b'code')}", b"code")
    store.put(f"assets/{sha256(b'weights')}", b"weights")
    materialise(store, {"Runner.py": sha256(b"code"), "files/b.pt": sha256(b"weights")}, tmp_path)
    assert (tmp_path / "files/b.pt").read_bytes() == b"weights"


def test_all_missing_blobs_are_listed(tmp_path: Path) -> None:
    with pytest.raises(MissingBlobsError) as caught:
        materialise(MemoryObjectStore(), {"a": "0" * 64, "b": "1" * 64}, tmp_path / "new")
    assert [problem.key for problem in caught.value.problems] == ["a", "b"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", UNSAFE)
def test_an_unsafe_path_is_refused_before_anything_is_written(path: str, tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store.put(f"blobs/{sha256(b'x')}", b"x")
    with pytest.raises(InvalidPackageError):
        materialise(store, {path: sha256(b"x")}, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_hash_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackageError):
        materialise(MemoryObjectStore(), {"a": "../datasets/x"}, tmp_path / "new")


def test_a_blob_with_other_content_is_refused(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store.put(f"blobs/{'0' * 64}", b"x")
    with pytest.raises(InvalidPackageError, match="other content"):
        materialise(store, {"a": "0" * 64}, tmp_path / "new")


def test_sizes_are_checked_before_anything_is_downloaded(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store.put(f"blobs/{sha256(b'four')}", b"four")
    with pytest.raises(PayloadTooLargeError):
        materialise(store, {"a": sha256(b"four"), "b": sha256(b"four")}, tmp_path / "new", max_bytes=7)
    assert not (tmp_path / "new").exists()


def test_more_files_than_the_limit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLargeError):
        materialise(MemoryObjectStore(), {f"{index}": "0" * 64 for index in range(100_001)}, tmp_path / "new")
