"""`Array`: what an array of a schema may be; checked where datasets are fetched and posted, and told to clients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "float32", "float64")
_NUMBERS = re.compile(r"\d+( or \d+)*")


class Array:
    """Says what an array of a schema may be: `Annotated[np.ndarray, Array("(V, 3)", dtypes=["float32"])]`.

    Args:
        shapes: the shapes it may have, any where none is given. A number is a length, "3 or 4" are two of them, and a
            word stands for any length: "(Z, Y, X)", "(V, 3)", "(Y, X, 3 or 4)".
        dtypes: names of the numpy dtypes that are taken, any where none is given.
        stored: names of the dtypes that it may have in the end; others are converted to the first of them.

    Raises:
        ValueError: it is no shape or dtype.
    """

    def __init__(self, *shapes: str, dtypes: Sequence[str] = (), stored: Sequence[str] = ()) -> None:
        self.shapes = shapes
        self.dtypes = _names(dtypes)
        self.stored = _names(stored)
        self._lengths = [_lengths(shape) for shape in shapes]

    def check(self, array: Any) -> Any:
        """The array in the dtype in which it is stored; what is no array is left to others.

        Raises:
            ValueError: it has another dtype or shape; it names what is allowed.
        """
        if not isinstance(array, np.ndarray):
            return array
        faults = []
        if self.dtypes and array.dtype.name not in self.dtypes:
            faults.append(f"dtype {array.dtype} is not allowed here; allowed: {', '.join(self.dtypes)}")
        if self.shapes and not any(_fits(array.shape, lengths) for lengths in self._lengths):
            faults.append(f"shape {array.shape} does not fit; allowed: {', '.join(self.shapes)}")
        if faults:
            raise ValueError(". ".join(faults))
        if not self.stored or array.dtype.name in self.stored:
            return array
        if array.dtype == bool and self.stored[0] == "uint8" and array.flags.c_contiguous:
            return array.view(np.uint8)  # masks may be large
        return array.astype(self.stored[0])

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def _names(dtypes: Sequence[str]) -> tuple[str, ...]:
    dtypes = (dtypes,) if isinstance(dtypes, str) else tuple(dtypes)
    for dtype in dtypes:
        try:
            known = np.dtype(dtype).name == dtype
        except TypeError:
            known = False
        if not known:
            raise ValueError(f"{dtype!r} is no name of a numpy dtype, such as 'uint8' or 'float32'")
    return dtypes


def _lengths(shape: str) -> list[frozenset[int]]:
    """The lengths that each axis may have; an empty set stands for any."""
    inner = re.fullmatch(r"\((.*)\)", shape)
    words = [word.strip() for word in inner[1].split(",")] if inner else []
    if words and not words[-1]:  # as in "(D,)"
        words.pop()
    if inner is None or not all(words) or any(word[0].isdigit() and not _NUMBERS.fullmatch(word) for word in words):
        raise ValueError(f'{shape!r} is no shape, such as "(Y, X)", "(V, 3)" or "(Y, X, 3 or 4)"')
    return [frozenset(map(int, re.findall(r"\d+", word))) if word[0].isdigit() else frozenset() for word in words]


def _fits(shape: tuple[int, ...], lengths: Sequence[frozenset[int]]) -> bool:
    return len(shape) == len(lengths) and all(
        not allowed or length in allowed for length, allowed in zip(shape, lengths, strict=True)
    )
