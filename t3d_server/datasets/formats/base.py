"""What a format is: how its files are recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from t3d_server.datasets.values import Array

Reader = Callable[[Path, Path, int], dict[str, Any]]
"""Takes a file that nobody vouches for, a folder for temporary files, and the largest size of its arrays in bytes."""

Writer = Callable[[Array, BinaryIO, str, Sequence[float] | None, str | None], None]
"""Takes an array, a seekable file, axes, spacing of the spatial axes in axis order, and the unit of the spacing."""


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        media_type: its name in HTTP.
        suffixes: of its files; files that are written have the first.
        states_axes: whether a file, which its user vouches for, says the axes of its image.
        aliases: other media types that stand for it in requests.
        holds_dataset: whether a file is a whole dataset, with its keys; else it is one array.
        read: gives values by key, arrays on files where that saves memory, one array as `image`; None for HDF5, whose
            files are stored as they are.
        write: None where it is not written. Raises `UnsupportedMediaTypeError` for an array that does not fit.
        header: what precedes the bytes of a C-ordered array of this shape and dtype in a file that has nothing else;
            None where files are not of that form. A format of that form takes any array.
        keeps_layout: whether written files state axes and spacing.
        fallback: the format for an array that this one cannot hold.
    """

    media_type: str
    suffixes: tuple[str, ...]
    states_axes: Callable[[Path], bool]
    aliases: tuple[str, ...] = ()
    holds_dataset: bool = False
    read: Reader | None = None
    write: Writer | None = None
    header: Callable[[tuple[int, ...], np.dtype[Any]], bytes] | None = None
    keeps_layout: bool = False
    fallback: Format | None = None

    def written_as(self) -> list[Format]:
        """Formats for an array that came in this one, in order of preference; the last takes any array."""
        rest = self.fallback.written_as() if self.fallback else []
        return [self, *rest] if self.write else rest
