"""The table of file formats, and its look-ups by media type and by suffix."""

from __future__ import annotations

from pathlib import Path

from t3d_server.datasets.formats import hdf5, jpeg, npy, npz, png, tiff
from t3d_server.datasets.formats.base import Format
from t3d_server.errors import UnsupportedMediaTypeError

FORMATS = (hdf5.FORMAT, npy.FORMAT, npz.FORMAT, tiff.FORMAT, png.FORMAT, jpeg.FORMAT)
"""Every format; all are read. Where a client takes several, the first of them that is written is preferred."""

HDF5 = hdf5.FORMAT.media_type
NPY = npy.FORMAT.media_type
NPZ = npz.FORMAT.media_type
TIFF = tiff.FORMAT.media_type
PNG = png.FORMAT.media_type
JPEG = jpeg.FORMAT.media_type
READABLE = tuple(row.media_type for row in FORMATS)
WRITABLE = tuple(row.media_type for row in FORMATS if row.write)

_BY_MEDIA_TYPE = {name: row for row in FORMATS for name in (row.media_type, *row.aliases)}
_BY_SUFFIX = {suffix: row for row in FORMATS for suffix in row.suffixes}


def by_content_type(content_type: str) -> Format:
    """The format that a Content-Type header names; its parameters do not matter.

    Raises:
        UnsupportedMediaTypeError: it names none.
    """
    plain = content_type.partition(";")[0].strip().lower()
    if plain not in _BY_MEDIA_TYPE:
        raise UnsupportedMediaTypeError(f"content type {content_type!r} is not read; {', '.join(READABLE)} are")
    return _BY_MEDIA_TYPE[plain]


def by_suffix(path: Path) -> Format:
    """The format of a file by the suffix of its name.

    Raises:
        UnsupportedMediaTypeError: a suffix that is not known.
    """
    suffix = path.suffix.lower()
    if suffix not in _BY_SUFFIX:
        what = f"the format {suffix!r} is not read" if suffix else "has no extension, which tells the format"
        raise UnsupportedMediaTypeError(f"{path.name}: {what}; {', '.join(_BY_SUFFIX)} are read")
    return _BY_SUFFIX[suffix]
