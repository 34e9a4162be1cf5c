"""Turns the values of a dataset into plain arrays and text, and says all that cannot be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t3d_server.datasets.conventions import MAX_KEYS, MAX_TEXT_BYTES, MAX_TEXT_ITEMS, check_key
from t3d_server.errors import InvalidDatasetError, Problem

Array = np.ndarray[Any, np.dtype[Any]]
Plain = Array | str | list[str]

_PLAIN_KINDS = "biuf"
_ALLOWED = "arrays, numbers, text, and lists of text, of numbers or of arrays of equal shape and dtype can be stored"

_TOO_LONG = f"more than {MAX_TEXT_BYTES} bytes of text; store long text as a uint8 array"


class _UnstorableError(Exception):
    """Why a value cannot be stored; becomes the `Problem` of its key."""


def normalise(values: Mapping[str, Any]) -> dict[str, Plain]:
    """Plain values of a dataset.

    Args:
        values: arrays (numpy, or torch on any device), numbers, text, lists or tuples of text, of numbers (nested to
            a rectangle, too) or of arrays of equal shape and dtype; None is left out. `image` and `mask` may be bool.

    Returns:
        By key, in the given order: native C-ordered or strided arrays of bool, integers or floats of at most
        64 bits (a number is one of shape ()); text; lists of text. A list of arrays has become one with a new
        axis 0, a bool `image` or `mask` uint8 0/1.

    Raises:
        InvalidDatasetError: with every key that cannot be stored.
    """
    plain: dict[str, Plain] = {}
    problems: list[Problem] = []
    for key, value in values.items():
        fault = check_key(key)
        if fault is not None:
            problems.append(Problem(repr(key), fault))
            continue
        if value is None:
            continue
        try:
            plain[key] = _plain(value, "")
        except _UnstorableError as error:
            problems.append(Problem(key, str(error).strip()))
    if len(values) > MAX_KEYS:
        problems.append(Problem("", f"{len(values)} keys; a dataset has at most {MAX_KEYS}"))
    if sum(text_bytes(value) for value in plain.values()) > MAX_TEXT_BYTES:
        problems.append(Problem("", _TOO_LONG))
    if problems:
        raise InvalidDatasetError("the dataset cannot be stored", problems=problems)
    for key in ("image", "mask"):
        array = plain.get(key)
        if isinstance(array, np.ndarray) and array.dtype == np.bool_:
            plain[key] = array.astype(np.uint8)
    return plain


def text_bytes(value: object) -> int:
    """UTF-8 size of text or of a list of text, 0 for anything else."""
    if isinstance(value, str):
        return len(value.encode())
    return sum(map(text_bytes, value)) if isinstance(value, list) else 0


def _plain(value: object, where: str) -> Plain:
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        # As Python's text it may be many times as large.
        _check_count(value.size)
        if np.char.str_len(value).sum() > MAX_TEXT_BYTES:
            raise _UnstorableError(_TOO_LONG)
        return _plain(value.tolist(), where)
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        _check_count(len(value))
        return [_text(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return _array(value, where)


def _check_count(texts: int) -> None:
    if texts > MAX_TEXT_ITEMS:
        raise _UnstorableError(f"{texts} texts; a list has at most {MAX_TEXT_ITEMS}")


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _UnstorableError(f"{where} is not valid Unicode text: {error.reason}") from None
    if "\0" in value:
        raise _UnstorableError(f"{where} holds a NUL character, where HDF5 ends text")
    return str(value)


def _array(value: object, where: str) -> Array:
    if isinstance(value, list | tuple):
        return _stacked(value, where)
    if isinstance(value, bool | int | float | np.generic | np.ndarray):
        array = np.asarray(value)
    elif hasattr(value, "detach") and hasattr(value, "cpu"):
        array = _from_tensor(value, where)
    elif isinstance(value, Mapping):
        raise _UnstorableError(f"{where} is a dictionary; datasets are flat, give each of its entries a key of its own")
    else:
        raise _UnstorableError(f"{where} is {type(value).__name__}; {_ALLOWED}")
    if array.dtype.kind not in _PLAIN_KINDS or array.dtype.itemsize > 8:
        raise _UnstorableError(
            f"{where} has dtype {array.dtype}; bool, integers and floats of at most 64 bits can be stored"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _from_tensor(value: Any, where: str) -> Array:
    try:
        return np.asarray(value.detach().cpu().numpy())
    except (TypeError, RuntimeError) as error:
        raise _UnstorableError(f"{where} is a tensor that numpy cannot take: {error}") from error


def _is_numbers(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_numbers, value))
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _stacked(items: Sequence[object], where: str) -> Array:
    if all(map(_is_numbers, items)):
        try:
            return _array(np.asarray(items), where)
        except ValueError:
            raise _UnstorableError(
                f"{where} holds lists of unequal length; pad them, or give each its own key"
            ) from None
    if any(item is None for item in items):
        raise _UnstorableError(f"{where} holds None; leave such items out")
    arrays = [_array(item, f"{where}[{index}]") for index, item in enumerate(items)]
    kinds = {(array.shape, array.dtype.name): index for index, array in reversed(list(enumerate(arrays)))}
    if len(kinds) > 1:
        found = "; ".join(f"[{index}] {shape} {dtype}" for (shape, dtype), index in list(kinds.items())[-4:][::-1])
        raise _UnstorableError(f"{where} is ragged ({found}); pad it, or give each item a key of its own")
    return np.stack(arrays)
