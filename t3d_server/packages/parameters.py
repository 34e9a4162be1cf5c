"""The 13 parameter types: what values `args` may have, and the JSON Schema that tells clients so."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from t3d_server.errors import InvalidArgsError, Problem
from t3d_server.models import Manifest, Parameter
from t3d_server.packages.wording import did_you_mean, found


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # JSON can hold halves of characters, which no record of a run could
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _int(value: Any) -> int:
    if not _is_number(value) or value != value // 1:
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if not _is_number(value):
        raise ValueError
    if not math.isfinite(value):
        raise OverflowError
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


@dataclass(frozen=True)
class Scalar:
    """A kind of single value.

    Attributes:
        read: gives the value in its own Python type, or raises ValueError (OverflowError where it is not finite).
        one: what is allowed, in words.
        many: the same, in the plural.
        json_type: its `type` in JSON Schema.
    """

    read: Callable[[Any], Any]
    one: str
    many: str
    json_type: str


_STRING = Scalar(_string, "a string", "strings", "string")
_INT = Scalar(_int, "an integer", "integers", "integer")
_FLOAT = Scalar(_float, "a number", "numbers", "number")
_BOOL = Scalar(_bool, "true or false", "booleans", "boolean")


@dataclass(frozen=True)
class ParameterType:
    """What a parameter type is made of: a kind of value, and how it is offered."""

    scalar: Scalar
    form: Literal["plain", "range", "enum", "list"]


TYPES: dict[str, ParameterType] = {
    "string": ParameterType(_STRING, "plain"),
    "int": ParameterType(_INT, "plain"),
    "float": ParameterType(_FLOAT, "plain"),
    "bool": ParameterType(_BOOL, "plain"),
    "int_range": ParameterType(_INT, "range"),
    "float_range": ParameterType(_FLOAT, "range"),
    "string_enum": ParameterType(_STRING, "enum"),
    "int_enum": ParameterType(_INT, "enum"),
    "float_enum": ParameterType(_FLOAT, "enum"),
    "string_list": ParameterType(_STRING, "list"),
    "int_list": ParameterType(_INT, "list"),
    "float_list": ParameterType(_FLOAT, "list"),
    "bool_list": ParameterType(_BOOL, "list"),
}


def check_value(parameter: Parameter, value: Any) -> Any:
    """Check a value against its parameter.

    Returns:
        The value in the parameter's own Python type: whole floats become int, integers become float.

    Raises:
        ValueError: says what was found and what is allowed.
    """
    kind = TYPES[parameter.type]
    try:
        if kind.form == "list":
            if not isinstance(value, list | tuple):
                raise ValueError
            return [kind.scalar.read(item) for item in value]
        checked = kind.scalar.read(value)
    except (ValueError, OverflowError) as error:
        finite = "; numbers have to be finite" if isinstance(error, OverflowError) else ""
        raise ValueError(f"found {found(value)}, allowed is {_allowed(parameter)}{finite}") from None
    outside = kind.form == "range" and not parameter.min <= checked <= parameter.max
    if outside or (kind.form == "enum" and checked not in (parameter.options or ())):
        raise ValueError(f"found {found(value)}, allowed is {_allowed(parameter)}")
    return checked


def resolve_args(parameters: Sequence[Parameter], args: Mapping[str, Any]) -> dict[str, Any]:
    """Check a run's args and fill in the defaults.

    Args:
        parameters: the algorithm's parameters.
        args: values by parameter name.

    Returns:
        A value for every parameter, in the order of `parameters`; the caller may change it.

    Raises:
        InvalidArgsError: a name is unknown or a value does not fit; it lists every such problem.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    problems = []
    for name in args:
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            problems.append(
                Problem(f"args.{name:.80}", f"unknown; the parameters are: {known}{did_you_mean(name[:80], by_name)}")
            )
    resolved = {}
    for name, parameter in by_name.items():
        try:
            resolved[name] = check_value(parameter, copy.deepcopy(args.get(name, parameter.default)))
        except ValueError as error:
            problems.append(Problem(f"args.{name}", str(error)))
    if problems:
        raise InvalidArgsError("The args do not fit the algorithm's parameters.", problems=problems)
    return resolved


def args_schema(manifest: Manifest) -> dict[str, Any]:
    """JSON Schema (draft 2020-12, and as well any since draft 6) of the args, for clients that build forms.

    It accepts what the server accepts. Two annotations are our own: `x-step`, the step of a slider, and `x-adjustable`,
    which is false where a parameter is for programs and not to be shown to users.

    Args:
        manifest: that of the version.
    """
    # Without `$schema`: form generators whose validator is set to another draft refuse to render, for no other reason.
    return {
        "title": f"{manifest.name} {manifest.version}",
        "description": manifest.description,
        "type": "object",
        "properties": {parameter.name: _value_schema(parameter) for parameter in manifest.additional_parameters},
        "additionalProperties": False,
    }


def _allowed(parameter: Parameter) -> str:
    kind = TYPES[parameter.type]
    match kind.form:
        case "range":
            return f"{kind.scalar.one} from {parameter.min} to {parameter.max}"
        case "enum":
            return f"one of {', '.join(map(repr, parameter.options or ()))}"
        case "list":
            return f"a list of {kind.scalar.many}"
        case "plain":
            return kind.scalar.one


def _value_schema(parameter: Parameter) -> dict[str, Any]:
    kind = TYPES[parameter.type]
    scalar = {"type": kind.scalar.json_type}
    value: dict[str, Any] = {"type": "array", "items": scalar} if kind.form == "list" else scalar
    schema = {"title": parameter.name, "description": parameter.description, **value, "default": parameter.default}
    if kind.form == "range":
        schema |= {"minimum": parameter.min, "maximum": parameter.max}
        # `multipleOf` would make values between the steps invalid, and by rounding of floats those on the steps too.
        schema |= {} if parameter.step is None else {"x-step": parameter.step}
    if kind.form == "enum":
        schema["enum"] = parameter.options
    return schema | {"x-adjustable": parameter.adjustable}
