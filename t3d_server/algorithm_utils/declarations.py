"""What a runner class declares of its type, its inputs and its outputs: checked, and described for clients."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from t3d_server import algorithm_utils
from t3d_server.algorithm_utils.annotations import members, metadata, takes_array, takes_none
from t3d_server.algorithm_utils.arrays import Array
from t3d_server.algorithm_utils.BaseRunner import BaseRunner
from t3d_server.algorithm_utils.TypedRunner import TypedRunner
from t3d_server.models import DataKey, InputInfo, Kind, OutputInfo

_KINDS: tuple[tuple[type, Kind], ...] = (
    (np.ndarray, "array"),
    (bool, "boolean"),
    (int, "number"),
    (float, "number"),
    (np.number, "number"),
    (str, "text"),
    (list, "list"),
    (tuple, "list"),
)


@cache
def server_types() -> Mapping[str, type[BaseRunner]]:
    """The algorithm types that come with the server, by name: the classes of this package that name one."""
    types: dict[str, type[BaseRunner]] = {}
    for info in pkgutil.iter_modules(algorithm_utils.__path__, f"{algorithm_utils.__name__}."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, BaseRunner) and "algorithm_type" in vars(value):
                types[value.algorithm_type] = value
    return types


def declaration_faults(runner: type[BaseRunner]) -> Iterator[str]:
    """What is wrong with the class attributes by which a runner, or its type, tells what it is.

    Args:
        runner: an author's `Runner`.
    """
    typed = issubclass(runner, TypedRunner)
    name = runner.algorithm_type
    if not isinstance(name, str) or not name or (typed and name == BaseRunner.algorithm_type):
        where = _owner(runner, "algorithm_type")
        yield f"{where} is {name!r}; a subclass of TypedRunner has to give its type a name of its own"
    elif not issubclass(runner, taken := server_types().get(name, BaseRunner)):
        where = _owner(runner, "algorithm_type")
        yield f"{where} is {name!r}, the type of {taken.__name__}: derive from that class, or take another name"
    for attribute in ("input_schema", "output_schema"):
        schema = getattr(runner, attribute, None)
        if not _is_schema(schema) and (typed or schema is not None):
            found = "missing" if schema is None else repr(schema)
            where = _owner(runner, attribute)
            yield f"{where} is {found}; it has to be a schema, such as t3d_server.algorithm_utils.ImageSchema"
    if not _is_count(_input_count(runner)):
        where, found = _owner(runner, "input_count"), repr(_input_count(runner))
        yield f"{where} is {found}; it has to be (fewest, most), such as (1, None) or (2, 2)"
    if not _is_tags(getattr(runner, "algorithm_tags", {})):
        yield f"{_owner(runner, 'algorithm_tags')} has to be a dictionary that gives each tag a line of explanation"
    for attribute in ("input_rule", "output_count"):
        if not isinstance(getattr(runner, attribute, ""), str):
            yield f"{_owner(runner, attribute)} has to be text"


def describe_inputs(runner: type[BaseRunner]) -> InputInfo | None:
    """What goes into a run of this runner; None where it declares nothing of it."""
    schema = getattr(runner, "input_schema", None)
    if schema is None and not hasattr(runner, "input_count"):
        return None
    fewest, most = _input_count(runner)
    keys = None if schema is None else _keys(schema, stored=False)
    return InputInfo(min_datasets=fewest, max_datasets=most, rule=getattr(runner, "input_rule", ""), keys=keys)


def describe_outputs(runner: type[BaseRunner]) -> OutputInfo | None:
    """What comes out of a run of this runner; None where it declares nothing of it."""
    schema, count = getattr(runner, "output_schema", None), getattr(runner, "output_count", "")
    if schema is None and not count:
        return None
    return OutputInfo(count=count or None, keys=None if schema is None else _keys(schema, stored=True))


def _owner(runner: type[BaseRunner], attribute: str) -> str:
    """The attribute with the class of the author's that sets it, or with that of the type, which ought to."""
    authors = [base for base in runner.__mro__ if base.__module__.partition(".")[0] != "t3d_server"]
    classes = [base for base in authors if attribute in vars(base)]
    types = [base for base in authors if issubclass(base, BaseRunner)]
    return f"{(classes or types[::-1] or [runner])[0].__name__}.{attribute}"


def _input_count(runner: type[BaseRunner]) -> Any:
    return getattr(runner, "input_count", (0, None))


def _is_schema(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _is_count(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    fewest, most = value
    return type(fewest) is int and fewest >= 0 and (most is None or (type(most) is int and most >= max(fewest, 1)))


def _is_tags(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _keys(schema: type[BaseModel], *, stored: bool) -> list[DataKey]:
    """The keys of a dataset that fits a schema.

    Args:
        schema: any pydantic model.
        stored: tell what is in the dataset after it was posted, not what is taken.
    """
    return [_key(name, field, stored=stored) for name, field in schema.model_fields.items()]


def _key(name: str, field: FieldInfo, *, stored: bool) -> DataKey:
    given = [member for member in members(field.annotation) if member not in (None, type(None))]
    one = given[0] if len(given) == 1 else np.ndarray if takes_array(field.annotation) else Any
    said: dict[str, Any] = {"kind": _kind(one)}
    parts = typing.get_args(one)
    arrays = [*field.metadata, *metadata(field.annotation)]
    if said["kind"] == "list":
        said["items"] = _kind(next(members(parts[0]))) if parts else "any"
        said["length"] = len(parts) if typing.get_origin(one) is tuple and Ellipsis not in parts else None
        arrays = list(metadata(parts[0])) if parts else []
    elif typing.get_origin(one) is Literal:
        said["options"] = list(parts)
    array = next((item for item in arrays if isinstance(item, Array)), None)
    if array is not None:
        said |= {"shapes": array.shapes, "dtypes": (array.stored if stored else ()) or array.dtypes}
    optional = not field.is_required() or takes_none(field.annotation)
    return DataKey(key=name, optional=optional, description=field.description or "", **said)


def _kind(annotation: Any) -> Kind:
    plain = typing.get_origin(annotation) or annotation
    if plain is Literal:
        plain = type(typing.get_args(annotation)[0])
    return next((kind for base, kind in _KINDS if isinstance(plain, type) and issubclass(plain, base)), "any")
