"""Wire models of datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from t3d_server.models.base import Model


class ArrayInfo(Model):
    """Shape and numpy dtype name of one array of a dataset."""

    shape: tuple[int, ...]
    dtype: str


class DatasetInfo(Model):
    """What is known of a dataset without reading its arrays.

    Attributes:
        id: UUID version 7.
        size_bytes: size of its HDF5 file.
        created_at: when it was stored.
        arrays: every numeric array by key.
        values: the small values (text, lists of text, scalars) by key.
        axes: axes of `image` ("YX", "YXC", "ZYX", "ZYXC", "CYX"), None without an image.
        spacing: distance of neighbouring samples, one for each spatial axis in axis order.
        spacing_unit: unit of `spacing`.
    """

    id: str
    size_bytes: int
    created_at: datetime
    arrays: dict[str, ArrayInfo] = {}
    values: dict[str, Any] = {}
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    spacing_unit: str | None = None
