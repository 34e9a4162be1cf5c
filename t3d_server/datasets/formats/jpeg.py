"""The JPEG format: read, never written, since it loses values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import JpegImagePlugin

from t3d_server.datasets.formats import pillow, png
from t3d_server.datasets.formats.base import Format


def _read(source: Path, _scratch: Path, max_bytes: int) -> dict[str, Any]:
    return pillow.read(source, JpegImagePlugin.JpegImageFile, max_bytes)


FORMAT = Format(
    "image/jpeg",
    (".jpg", ".jpeg"),
    states_axes=lambda _path: True,
    aliases=("image/jpg",),
    read=_read,
    fallback=png.FORMAT,
)
