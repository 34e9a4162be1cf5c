"""The module archive: the same for the same content, and safe to unpack."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t3d_server.errors import InvalidPackageError, PayloadTooLargeError
from t3d_server.packages.archive import pack, unpack

names = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?\.py", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=50), max_size=5))
def test_an_archive_is_deterministic_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    archive = pack(files)
    assert archive == pack(dict(reversed(files.items())))
    folder = tmp_path_factory.mktemp("unpacked")
    unpack(io.BytesIO(archive), folder)
    written = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert written == files


def make_zip(*entries: tuple[str, bytes], mode: int = 0, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            # ZipInfo drops what follows a null byte, and turns the separators of the system round.
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = compression
            archive.writestr(info, content)
    return buffer.getvalue()


def damaged() -> bytes:
    content = bytearray(make_zip(("a.py", b"content" * 100), compression=zipfile.ZIP_DEFLATED))
    content[40:45] = b"\xff" * 5
    return bytes(content)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_zip(("../a.py", b"")),
        lambda: make_zip(("a/../../b.py", b"")),
        lambda: make_zip(("/etc/a.py", b"")),
        lambda: make_zip(("C:/a.py", b"")),
        lambda: make_zip(("a\\b.py", b"")),
        lambda: make_zip(("a.py", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
        lambda: make_zip(("device", b""), mode=stat.S_IFCHR | 0o666),
        lambda: make_zip(("folder/", b"")),
        lambda: make_zip(("a.py", b"1"), ("A.py", b"2")),
        lambda: make_zip(("a", b"1"), ("a/b.py", b"2")),
        lambda: b"no zip at all",
        lambda: make_zip(("a.py", b"content"))[:-5],
        damaged,
    ],
)
def test_an_unsafe_or_damaged_archive_is_refused(make: Callable[[], bytes], tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(InvalidPackageError):
        unpack(io.BytesIO(make()), folder)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackageError):
        unpack(io.BytesIO(make_zip(("a.py", b"1"), ("a.py", b"2"))), tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = make_zip(("a.py", bytes(2**24 + 1)), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**16
    with pytest.raises(PayloadTooLargeError):
        unpack(io.BytesIO(bomb), tmp_path, max_bytes=2**24)
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_lies_about_its_size_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    honest = make_zip(("a.py", bytes(1000)), compression=zipfile.ZIP_DEFLATED)
    lying = honest.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    with pytest.raises(InvalidPackageError):
        unpack(io.BytesIO(lying), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    archive = pack({f"{index}.py": b"" for index in range(3)})
    with pytest.raises(PayloadTooLargeError):
        unpack(io.BytesIO(archive), tmp_path, max_files=2)


def test_what_could_not_be_unpacked_is_not_packed() -> None:
    with pytest.raises(PayloadTooLargeError, match=r"10000 files .* these are 10001"):
        pack({f"{index}.py": b"" for index in range(10_001)})
