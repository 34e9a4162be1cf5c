"""Files that nobody should have sent: each is refused with a reason, none harms the process."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from t3d_server.datasets import conversion, formats, hdf5, inspection
from t3d_server.errors import InvalidDatasetError, PayloadTooLargeError, UnsupportedMediaTypeError

MAX_BYTES = 10_000_000
Build = Callable[[h5py.File], Any]


def packed_bomb(file: h5py.File) -> None:
    """One chunk of 1000 bytes whose stream unpacks to 200 MB."""
    item = file.create_dataset("bomb", shape=(1000,), dtype="u1", chunks=(1000,), compression="gzip")
    item.id.write_direct_chunk((0,), zlib.compress(bytes(200 * 1024**2)))


def damaged_chunk(file: h5py.File) -> None:
    item = file.create_dataset("damaged", shape=(1000,), dtype="u1", chunks=(100,), compression="gzip")
    item.id.write_direct_chunk((0,), b"no deflate stream")


def many_keys(file: h5py.File) -> None:
    for index in range(5000):
        file[str(index)] = 0


def shared_text(file: h5py.File) -> None:
    file["texts"] = ["x" * 60_000] * 20


HDF5_FILES: list[tuple[str, Build, type[Exception], str]] = [
    ("no dataset", lambda file: None, InvalidDatasetError, "holds no dataset"),
    ("group", lambda file: file.create_group("g"), InvalidDatasetError, "g: is a group"),
    ("nested", lambda file: file.create_dataset("g/a", data=1), InvalidDatasetError, "g: is a group"),
    ("loop", lambda file: file.__setitem__("loop", file["/"]), InvalidDatasetError, "loop: is a group"),
    ("soft link", lambda file: file.__setitem__("a", h5py.SoftLink("/b")), InvalidDatasetError, "a: is a link"),
    (
        "external link",
        lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")),
        InvalidDatasetError,
        "a: is a link",
    ),
    (
        "external storage",
        lambda file: file.create_dataset("a", (100,), "u1", external=[("/etc/passwd", 0, 100)]),
        InvalidDatasetError,
        "a: keeps its data in other files",
    ),
    (
        "virtual",
        lambda file: file.create_virtual_dataset("a", virtual()),
        InvalidDatasetError,
        "a: keeps its data in other files",
    ),
    ("named type", lambda file: file.__setitem__("a", np.dtype("f4")), InvalidDatasetError, "a: is a type"),
    ("compound", lambda file: file.create_dataset("a", (3,), [("x", "f4")]), InvalidDatasetError, "a: has dtype"),
    ("complex", lambda file: file.create_dataset("a", (3,), "c8"), InvalidDatasetError, "a: has dtype complex64"),
    ("opaque", lambda file: file.create_dataset("a", (3,), "V8"), InvalidDatasetError, "a: has dtype"),
    ("inner array", lambda file: file.create_dataset("a", (3,), "(2,)f4"), InvalidDatasetError, "a: has dtype"),
    ("ragged", lambda file: file.create_dataset("a", (3,), h5py.vlen_dtype("i4")), InvalidDatasetError, "a: has dtype"),
    ("reference", lambda file: file.create_dataset("a", (3,), h5py.ref_dtype), InvalidDatasetError, "a: has dtype"),
    (
        "declared size",
        lambda file: file.create_dataset("a", (10**6, 10**6), "f8", chunks=(1000, 1000), compression="gzip"),
        PayloadTooLargeError,
        "unpacks to 8000000000000 bytes",
    ),
    (
        "chunk beyond its array",
        lambda file: file.create_dataset("a", (1,), "u1", maxshape=(None,), chunks=(10**9,)),
        PayloadTooLargeError,
        "unpacks to 1000000000 bytes",
    ),
    (
        "many chunks",
        lambda file: file.create_dataset("a", (5_000_000,), "u1", chunks=(1,)),
        InvalidDatasetError,
        "a: has 5000000 chunks",
    ),
    (
        "unknown filter",
        lambda file: file.create_dataset("a", (10,), "u1", chunks=(10,), scaleoffset=3),
        InvalidDatasetError,
        "a: is packed by HDF5 filters",
    ),
    ("packed bomb", packed_bomb, InvalidDatasetError, r"bomb: the chunk at \(0,\) unpacks to more"),
    ("damaged chunk", damaged_chunk, InvalidDatasetError, r"damaged: the chunk at \(0,\) is damaged"),
    ("many keys", many_keys, InvalidDatasetError, "5000 keys"),
    ("long text", lambda file: file.__setitem__("a", "x" * 2_000_000), InvalidDatasetError, "a: more than"),
    ("texts", shared_text, InvalidDatasetError, "texts: more than"),
    ("text matrix", lambda file: file.__setitem__("a", [["x"], ["y"]]), InvalidDatasetError, "a: is text of shape"),
    ("long key", lambda file: file.__setitem__("k" * 300, 1), InvalidDatasetError, "at most 255 bytes"),
    ("key that is no text", lambda file: file.__setitem__(b"\xff", 1), InvalidDatasetError, "not bytes"),
    ("image dtype", lambda file: file.__setitem__("image", np.zeros((3, 3), "u4")), InvalidDatasetError, "uint32"),
    ("image shape", lambda file: file.__setitem__("image", np.zeros(3)), InvalidDatasetError, "image: shape"),
    ("image number", lambda file: file.__setitem__("image", 3), InvalidDatasetError, "image: has to be an array"),
    ("mask", lambda file: file.__setitem__("mask", np.zeros((3, 3))), InvalidDatasetError, "mask: dtype float64"),
    ("spacing", lambda file: file.__setitem__("spacing", [1, -1]), InvalidDatasetError, "spacing: "),
    ("long spacing", lambda file: file.__setitem__("spacing", np.ones(99)), InvalidDatasetError, "spacing: "),
]


def virtual() -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout((100,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (100,))
    return layout


@pytest.mark.parametrize(
    ("build", "error", "message"), [row[1:] for row in HDF5_FILES], ids=[row[0] for row in HDF5_FILES]
)
def test_hdf5_that_is_no_dataset_is_refused(tmp_path: Path, build: Build, error: type[Exception], message: str) -> None:
    source, destination = tmp_path / "bad.h5", tmp_path / "out" / "dataset.h5"
    destination.parent.mkdir()
    with h5py.File(source, "w") as file:
        build(file)
    with pytest.raises(error, match=message):
        conversion.convert(source, formats.HDF5, destination, max_bytes=MAX_BYTES)
    assert not any(destination.parent.iterdir())


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.create_group("g")
        file["link"] = h5py.SoftLink("/g")
        file["c"] = 1j
    with pytest.raises(InvalidDatasetError) as caught:
        inspection.inspect(tmp_path / "bad.h5", max_bytes=MAX_BYTES)
    assert [problem.key for problem in caught.value.problems] == ["c", "g", "link"]


def test_a_file_that_crashes_libhdf5_is_refused_and_the_next_one_is_read(tmp_path: Path) -> None:
    """Each process that checks has to end at a fault of libhdf5, and only it."""
    good = tmp_path / "good.h5"
    with h5py.File(good, "w") as file:
        file["image"] = np.arange(600, dtype="u1").reshape(20, 30)
        file["image"].attrs["axes"] = "YX"
        file["names"] = ["a", "b"]
        file.create_dataset("packed", data=np.arange(600.0), chunks=(100,), compression="gzip")
    content = good.read_bytes()
    rng = np.random.default_rng(0)
    out = tmp_path / "out.h5"
    for _ in range(150):
        changed = bytearray(content)
        for at in rng.integers(0, 2048, 3):
            changed[at] = rng.choice([0, 255])
        (tmp_path / "bad.h5").write_bytes(changed)
        try:
            conversion.convert(tmp_path / "bad.h5", formats.HDF5, out, max_bytes=MAX_BYTES)
            hdf5.read(out)
        except (InvalidDatasetError, PayloadTooLargeError):
            pass
        out.unlink(missing_ok=True)
    conversion.convert(good, formats.HDF5, out, max_bytes=MAX_BYTES)
    assert hdf5.read(out)["names"] == ["a", "b"]


def npy(shape: tuple[int, ...], descr: str = "<f8", content: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def saved(array: Any, save: Callable[..., Any] = np.save, **options: Any) -> bytes:
    file = io.BytesIO()
    save(file, array, **options)
    return file.getvalue()


def zipped(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return file.getvalue()


def misplaced(archive: bytes) -> bytes:
    """A zip file that says its directory is further on, so that its member seems to be before its beginning."""
    offset = int.from_bytes(archive[-6:-2], "little")
    return archive[:-6] + (offset + 10).to_bytes(4, "little") + archive[-2:]


def picture(kind: str, image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that has no more than its header."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([depth, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff(data: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, data, **options)
    return file.getvalue()


def pages(*shapes: tuple[int, ...], ome: bool = False, compression: str | None = None) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=ome) as writer:
        for shape in shapes:
            writer.write(np.zeros(shape, np.uint8), photometric="minisblack", compression=compression)
    return file.getvalue()


def lying_tiff() -> bytes:
    """A small strip that unpacks to 200 MB."""
    bomb = zlib.compress(bytes(200 * 1024**2))
    file = io.BytesIO()
    tifffile.imwrite(file, iter([bomb]), shape=(10, 10), dtype="u1", compression="zlib", rowsperstrip=10)
    return file.getvalue()


def packed_by(compression: int) -> bytes:
    """A TIFF that says so."""
    file = io.BytesIO(tiff(np.zeros((9, 9), "u1")))
    with tifffile.TiffFile(file) as page:
        at = page.pages.first.tags["Compression"].valueoffset
    content = file.getvalue()
    return content[:at] + compression.to_bytes(2, "little") + content[at + 2 :]


NOISE = np.random.default_rng(0).bytes(3000)
STACK = tiff(np.zeros((5, 30, 40), np.uint8), photometric="minisblack", metadata=None, compression="zlib")
EDGE_FILES: Sequence[tuple[str, str, bytes, type[Exception], str]] = [
    (
        "npy header",
        formats.NPY,
        npy((1000, 1000), content=bytes(80)),
        InvalidDatasetError,
        "of 8000000 bytes, 80",
    ),
    ("npy bomb", formats.NPY, npy((10**9, 10**9)), PayloadTooLargeError, "has 8000000000000000000 bytes"),
    ("npy negative", formats.NPY, npy((-1, 5)), InvalidDatasetError, "npy"),
    ("npy pickle", formats.NPY, saved(np.array([None])), InvalidDatasetError, "never read"),
    ("npy uint32", formats.NPY, saved(np.zeros((2, 2), "u4")), InvalidDatasetError, "image: dtype uint32"),
    ("npy int64", formats.NPY, saved(np.zeros((2, 2), "i8")), InvalidDatasetError, "image: dtype int64"),
    ("npy complex", formats.NPY, saved(np.zeros((2, 2), "c8")), InvalidDatasetError, "image: has dtype complex64"),
    ("npy records", formats.NPY, saved(np.zeros(2, [("a", "f4")])), InvalidDatasetError, "image: has dtype"),
    ("pickle", formats.NPY, b"\x80\x04N.", InvalidDatasetError, "not a readable application/x-npy"),
    ("npz bomb", formats.NPZ, zipped(a_npy=bytes(50_000_000)), PayloadTooLargeError, "unpacks to 50000000 bytes"),
    (
        "npz header",
        formats.NPZ,
        zipped(a_npy=npy((1000,), content=b"1")),
        InvalidDatasetError,
        "of 8000 bytes, 1",
    ),
    ("npz pickle", formats.NPZ, saved(None, lambda f, _: np.savez(f, a=np.array([{}]))), InvalidDatasetError, "never"),
    ("npz other", formats.NPZ, zipped(a_txt=b"hi"), InvalidDatasetError, "a.txt: an npz holds npy files"),
    (
        "npz that zipfile unpacks without bound",
        formats.NPZ,
        zipped(zipfile.ZIP_LZMA, a_npy=npy((3,))),
        InvalidDatasetError,
        "a.npy: only deflate",
    ),
    (
        "npz directory",
        formats.NPZ,
        zipped(zipfile.ZIP_STORED, **{f"{index:0250}_npy": b"" for index in range(7000)}),
        InvalidDatasetError,
        "directory of the npz has 2\\d{6} bytes",
    ),
    ("npz offsets", formats.NPZ, misplaced(zipped(a_npy=npy((3,)))), InvalidDatasetError, "not a readable"),
    ("npz empty", formats.NPZ, zipped(), InvalidDatasetError, "holds no array"),
    ("png bomb", formats.PNG, png(50_000, 50_000), PayloadTooLargeError, "50000 x 50000 pixels unpack to 2500000000"),
    ("png cut", formats.PNG, png(50, 50), InvalidDatasetError, "not a readable image/png"),
    ("png 16-bit colour", formats.PNG, png(5, 5, 16, 2), InvalidDatasetError, "16 bits"),
    (
        "png animation",
        formats.PNG,
        picture("PNG", Image.new("L", (3, 3)), save_all=True, append_images=[Image.new("L", (3, 3), 9)]),
        InvalidDatasetError,
        "animated",
    ),
    ("jpeg cut", formats.JPEG, picture("JPEG", Image.effect_noise((99, 99), 9))[:900], InvalidDatasetError, "jpeg"),
    ("png as jpeg", formats.JPEG, png(5, 5), InvalidDatasetError, "not a readable image/jpeg"),
    ("tiff time", formats.TIFF, tiff(np.zeros((5, 9, 9), "u1"), metadata={"axes": "TYX"}), InvalidDatasetError, "time"),
    (
        "tiff channels",
        formats.TIFF,
        tiff(np.zeros((2, 5, 9, 9), "u1"), ome=True, photometric="minisblack", metadata={"axes": "CZYX"}),
        InvalidDatasetError,
        r"split C \(channel\)",
    ),
    ("tiff shapes", formats.TIFF, pages((4, 4), (5, 5)), InvalidDatasetError, "holds 2: YX.*as one array"),
    ("tiff positions", formats.TIFF, pages((4, 4), (4, 4), ome=True), InvalidDatasetError, "holds 2: YX"),
    (
        "tiff pages size",
        formats.TIFF,
        pages(*[(1500, 1500)] * 5, compression="zlib"),
        PayloadTooLargeError,
        "unpacks to 11250000 bytes",
    ),
    ("tiff cut", formats.TIFF, STACK[: len(STACK) // 2], InvalidDatasetError, "cut off|damaged"),
    (
        "tiff size",
        formats.TIFF,
        tiff(np.zeros((4000, 4000), "u1"), compression="zlib"),
        PayloadTooLargeError,
        "unpacks to 16000000 bytes",
    ),
    ("tiff bomb", formats.TIFF, lying_tiff(), InvalidDatasetError, "unpacks to more than it states"),
    ("tiff by LZMA", formats.TIFF, packed_by(34925), InvalidDatasetError, "packed by LZMA"),
    ("npy texts", formats.NPY, saved(np.full(70_000, "é")), InvalidDatasetError, "70000 texts; a list has at most"),
    (
        "npy text",
        formats.NPY,
        saved(np.array(["x" * 2_000_000])),
        InvalidDatasetError,
        "image: more than 1048576 bytes",
    ),
    ("tiff uint32", formats.TIFF, tiff(np.zeros((9, 9), "u4")), InvalidDatasetError, "image: dtype uint32"),
] + [
    (f"{what} {kind}", kind, content, InvalidDatasetError, message)
    for what, content, message in [("empty", b"", "is empty"), ("noise", NOISE, "not a readable")]
    for kind in formats.READABLE
]


@pytest.mark.parametrize(
    ("content_type", "content", "error", "message"), [row[1:] for row in EDGE_FILES], ids=[row[0] for row in EDGE_FILES]
)
def test_files_of_other_formats_that_are_no_dataset_are_refused(
    tmp_path: Path, content_type: str, content: bytes, error: type[Exception], message: str
) -> None:
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(error, match=message):
        conversion.convert(tmp_path / "source", content_type, tmp_path / "out" / "dataset.h5", max_bytes=MAX_BYTES)
    assert not any((tmp_path / "out").iterdir())


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """Whatever the limit of datasets: Pillow holds all of it."""
    (tmp_path / "a.png").write_bytes(png(40_000, 40_000))
    with pytest.raises(PayloadTooLargeError, match="limit of pictures is 1073741824; TIFF"):
        conversion.convert(tmp_path / "a.png", formats.PNG, tmp_path / "a.h5", max_bytes=2**40)


def test_a_tiff_of_too_many_pages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t3d_server.datasets.formats.tiff._MAX_PAGES", 4)
    (tmp_path / "a.tif").write_bytes(STACK)
    with pytest.raises(PayloadTooLargeError, match="more than 4 pages"):
        conversion.convert(tmp_path / "a.tif", formats.TIFF, tmp_path / "a.h5", max_bytes=MAX_BYTES)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        (formats.NPY, saved(np.ones((20, 500, 500), ">u2"))),
        (formats.NPY, saved(np.asfortranarray(np.ones((20, 500, 500), "u2")))),
        (formats.TIFF, tiff(np.ones((20, 500, 500), "u2"), byteorder=">", photometric="minisblack")),
    ],
    ids=["byte order", "Fortran order", "TIFF as ImageJ writes it"],
)
def test_arrays_of_another_order_are_not_turned_in_memory(tmp_path: Path, content_type: str, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    tracemalloc.start()
    conversion.convert(tmp_path / "source", content_type, tmp_path / "a.h5", max_bytes=10**8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(content) // 4
    assert (hdf5.read(tmp_path / "a.h5")["image"] == 1).all()


def test_an_error_does_not_repeat_a_long_text(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", {"image": np.zeros((3, 3), "u1")})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["image"].attrs["axes"] = "Y" * 1_000_000
    with pytest.raises(InvalidDatasetError) as caught:
        inspection.inspect(tmp_path / "a.h5", max_bytes=MAX_BYTES)
    assert len(str(caught.value)) < 1000


def test_an_ome_tiff_cannot_pull_in_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.tif"
    tifffile.imwrite(secret, np.full((8, 8), 7, "u1"), ome=True)
    description = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="P:0" DimensionOrder="XYCZT" Type="uint8" SizeX="8" SizeY="8" SizeC="1" SizeZ="1" SizeT="1">'
        f'<TiffData IFD="0"><UUID FileName="{secret}">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), "u1"), description=description, metadata=None)
    conversion.convert(tmp_path / "a.tif", formats.TIFF, tmp_path / "out.h5", max_bytes=MAX_BYTES)
    assert hdf5.read(tmp_path / "out.h5")["image"].max() == 0


def test_an_unknown_format_is_refused_with_the_ones_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(UnsupportedMediaTypeError, match=r"'image/webp' is not read; .*image/jpeg are"):
        conversion.convert(tmp_path / "a", "image/webp", tmp_path / "out.h5", max_bytes=MAX_BYTES)
