"""The 13 parameter types: their declaration in a manifest, their values in `args`, their JSON Schema."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from t3d_server.errors import InvalidArgsError, Problem
from t3d_server.models import Parameter
from t3d_server.packages.wording import did_you_mean, found


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _int(value: Any) -> int:
    if not _is_number(value) or value != value // 1:
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


@dataclass(frozen=True)
class _Scalar:
    """A kind of single value.

    Attributes:
        read: gives the value in its own Python type, or raises ValueError (OverflowError for a vast integer).
        one: what is allowed, in words.
        many: the same, in the plural.
        json_type: its `type` in JSON Schema.
    """

    read: Callable[[Any], Any]
    one: str
    many: str
    json_type: str


_STRING = _Scalar(_string, "a string", "strings", "string")
_INT = _Scalar(_int, "an integer", "integers", "integer")
_FLOAT = _Scalar(_float, "a number", "numbers", "number")
_BOOL = _Scalar(_bool, "true or false", "booleans", "boolean")


@dataclass(frozen=True)
class _Type:
    scalar: _Scalar
    form: Literal["plain", "range", "enum", "list"]


TYPES: dict[str, _Type] = {
    "string": _Type(_STRING, "plain"),
    "int": _Type(_INT, "plain"),
    "float": _Type(_FLOAT, "plain"),
    "bool": _Type(_BOOL, "plain"),
    "int_range": _Type(_INT, "range"),
    "float_range": _Type(_FLOAT, "range"),
    "string_enum": _Type(_STRING, "enum"),
    "int_enum": _Type(_INT, "enum"),
    "float_enum": _Type(_FLOAT, "enum"),
    "string_list": _Type(_STRING, "list"),
    "int_list": _Type(_INT, "list"),
    "float_list": _Type(_FLOAT, "list"),
    "bool_list": _Type(_BOOL, "list"),
}
_COMMON = ("type", "default", "adjustable")
_FIELDS = {
    "plain": _COMMON,
    "range": (*_COMMON, "min", "max", "step"),
    "enum": (*_COMMON, "options"),
    "list": _COMMON,
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
    except (ValueError, OverflowError):
        raise ValueError(f"found {found(value)}, allowed is {_allowed(parameter)}") from None
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
                Problem(f"args.{name}", f"unknown; the parameters are: {known}{did_you_mean(str(name), by_name)}")
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


def args_schema(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the args, for clients that build forms."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {parameter.name: _value_schema(parameter) for parameter in parameters},
        "additionalProperties": False,
    }


def parse_parameter(
    table: Mapping[str, Any], key: str, problems: list[Problem], warnings: list[str]
) -> Parameter | None:
    """Read one entry of `additional_parameters`.

    Args:
        table: the entry.
        key: where it is, for messages.
        problems: what is wrong is added here.
        warnings: what is doubtful is added here.

    Returns:
        The parameter, or None after adding to `problems`.
    """
    before = len(problems)

    def problem(field: str, message: str) -> None:
        problems.append(Problem(f"{key}.{field}", message))

    for field, meaning in (("name", "how `args` names it"), ("description", "a help text for users")):
        if field not in table:
            problem(field, f"is missing; it gives {meaning}")
        elif not isinstance(table[field], str) or not table[field].strip():
            problem(field, f"found {found(table[field])}, allowed is a string that is not empty")

    config, prefix = table.get("config"), "config."
    if config is None and "type" in table:
        warnings.append(
            f"{key}: `type`, `default` and the like belong in `config = {{...}}`; they were read from the entry itself"
        )
        config, prefix = {field: value for field, value in table.items() if field not in ("name", "description")}, ""
    else:
        _warn_of_unknown(table, ("name", "description", "config"), key, warnings)
    if not isinstance(config, Mapping):
        what = "is missing" if config is None else f"found {found(config)}"
        problem("config", f'{what}; a table is needed, such as {{type = "int", default = 1, adjustable = true}}')
        return None

    type_name = config.get("type")
    if type_name == "str":
        warnings.append(f'{key}.{prefix}type: "str" is read as "string"')
        type_name = "string"
    if not isinstance(type_name, str) or type_name not in TYPES:
        what = "is missing" if type_name is None else f"found {found(type_name)}"
        hint = did_you_mean(type_name, TYPES) if isinstance(type_name, str) else ""
        problem(f"{prefix}type", f"{what}, allowed are {', '.join(TYPES)}{hint}")
        return None
    kind = TYPES[type_name]
    _warn_of_unknown(config, _FIELDS[kind.form], f"{key}.{prefix}".removesuffix("."), warnings)

    values: dict[str, Any] = {"type": type_name}
    if not isinstance(config.get("adjustable", True), bool):
        problem(f"{prefix}adjustable", f"found {found(config['adjustable'])}, allowed is true or false")
    if kind.form == "range":
        for field in ("min", "max", "step"):
            if field in config:
                try:
                    values[field] = kind.scalar.read(config[field])
                except (ValueError, OverflowError):
                    problem(f"{prefix}{field}", f"found {found(config[field])}, allowed is {kind.scalar.one}")
            elif field != "step":
                problem(f"{prefix}{field}", f"is missing; {type_name} needs it")
        if values.get("step", 1) <= 0:
            problem(f"{prefix}step", f"found {found(config['step'])}, allowed is {kind.scalar.one} above 0")
        if "min" in values and "max" in values and values["min"] > values["max"]:
            problem(f"{prefix}min", f"{values['min']} is greater than max, {values['max']}")
    if kind.form == "enum":
        options = config.get("options")
        try:
            if not isinstance(options, list) or not options:
                raise ValueError
            values["options"] = [kind.scalar.read(option) for option in options]
        except (ValueError, OverflowError):
            what = "is missing" if options is None else f"found {found(options)}"
            problem(f"{prefix}options", f"{what}, allowed is a list of {kind.scalar.many} that is not empty")

    if "default" not in config:
        problem(f"{prefix}default", "is missing; it is the value where a run gives none")
    elif len(problems) == before:
        parameter = Parameter(
            name=table["name"],
            description=table["description"],
            default=config["default"],
            adjustable=config.get("adjustable", True),
            **values,
        )
        try:
            return parameter.model_copy(update={"default": check_value(parameter, parameter.default)})
        except ValueError as error:
            problem(f"{prefix}default", str(error))
    return None


def _warn_of_unknown(table: Mapping[str, Any], known: Sequence[str], key: str, warnings: list[str]) -> None:
    warnings += [
        f"{key}.{field}: unknown and ignored{did_you_mean(field, known)}" for field in table if field not in known
    ]


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
        # `multipleOf` would make values between the steps invalid, which they are not.
        schema |= {} if parameter.step is None else {"x-step": parameter.step}
    if kind.form == "enum":
        schema["enum"] = parameter.options
    return schema | {"x-adjustable": parameter.adjustable}
