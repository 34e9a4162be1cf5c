"""What the annotation of a schema's field says."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np


def members(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union, or the annotation itself; without the metadata of `Annotated`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from members(parts[0])
    elif origin is typing.Union or origin is types.UnionType:
        for part in parts:
            yield from members(part)
    else:
        yield annotation


def metadata(annotation: Any) -> Iterator[Any]:
    """What `Annotated` adds to the annotation or to an alternative of it."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from metadata(parts[0])
        yield from parts[1:]
    elif origin is typing.Union or origin is types.UnionType:
        for part in parts:
            yield from metadata(part)


def takes_array(annotation: Any) -> bool:
    """Whether an array fits it."""
    return any(np.ndarray in (member, typing.get_origin(member)) for member in members(annotation))


def takes_none(annotation: Any) -> bool:
    """Whether None fits it."""
    return any(member in (None, type(None), Any) for member in members(annotation))


def takes_arrays(annotation: Any) -> bool:
    """Whether it is a list or tuple of arrays."""
    return any(
        typing.get_origin(member) in (list, tuple) and any(takes_array(item) for item in typing.get_args(member))
        for member in members(annotation)
    )
