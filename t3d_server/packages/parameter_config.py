"""The declaration of a parameter in a manifest, read and validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t3d_server.errors import Problem
from t3d_server.models import Parameter
from t3d_server.packages.parameters import TYPES, ParameterType, check_value
from t3d_server.packages.wording import did_you_mean, found

_COMMON = ("type", "default", "adjustable")
_FIELDS = {
    "plain": _COMMON,
    "range": (*_COMMON, "min", "max", "step"),
    "enum": (*_COMMON, "options"),
    "list": _COMMON,
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
    for field, meaning in (("name", "how `args` names it"), ("description", "a help text for users")):
        if field not in table:
            problems.append(Problem(f"{key}.{field}", f"is missing; it gives {meaning}"))
        elif not isinstance(table[field], str) or not table[field].strip():
            message = f"found {found(table[field])}, allowed is a string that is not empty"
            problems.append(Problem(f"{key}.{field}", message))

    content, config_key = table.get("config"), f"{key}.config"
    if content is None and "type" in table:
        warnings.append(
            f"{key}: `type`, `default` and the like belong in `config = {{...}}`; they were read from the entry itself"
        )
        content, config_key = {field: table[field] for field in table if field not in ("name", "description")}, key
    else:
        _warn_of_unknown(table, ("name", "description", "config"), key, warnings)
    if not isinstance(content, Mapping):
        what = "is missing" if content is None else f"found {found(content)}"
        example = 'a table is needed, such as {type = "int", default = 1, adjustable = true}'
        problems.append(Problem(config_key, f"{what}; {example}"))
        return None

    config = _Config(content, config_key, problems)
    values = config.read(warnings)
    if values is None or len(problems) > before:
        return None
    parameter = Parameter(name=table["name"], description=table["description"], **values)
    try:
        return parameter.model_copy(update={"default": check_value(parameter, parameter.default)})
    except ValueError as error:
        config.problem("default", str(error))
        return None


class _Config:
    """The `config` of a parameter."""

    def __init__(self, content: Mapping[str, Any], key: str, problems: list[Problem]) -> None:
        self._content = content
        self._key = key
        self._problems = problems

    def problem(self, field: str, message: str) -> None:
        self._problems.append(Problem(f"{self._key}.{field}", message))

    def read(self, warnings: list[str]) -> dict[str, Any] | None:
        """Fields of `Parameter`, with the default as it was found; None without a type that is known."""
        type_name = self._content.get("type")
        if type_name == "str":
            warnings.append(f'{self._key}.type: "str" is read as "string"')
            type_name = "string"
        if not isinstance(type_name, str) or type_name not in TYPES:
            hint = did_you_mean(type_name, TYPES) if isinstance(type_name, str) else ""
            self.problem("type", f"{self._finding('type')}, allowed are {', '.join(TYPES)}{hint}")
            return None
        kind = TYPES[type_name]
        _warn_of_unknown(self._content, _FIELDS[kind.form], self._key, warnings)
        values = {"type": type_name, "adjustable": self._content.get("adjustable", True)}
        if not isinstance(values["adjustable"], bool):
            self.problem("adjustable", f"{self._finding('adjustable')}, allowed is true or false")
        if kind.form == "range":
            values |= self._range(type_name, kind)
        if kind.form == "enum":
            values |= self._options(kind)
        if "default" in self._content:
            values["default"] = self._content["default"]
        else:
            self.problem("default", "is missing; it is the value where a run gives none")
        return values

    def _range(self, type_name: str, kind: ParameterType) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field in ("min", "max", "step"):
            if field in self._content:
                try:
                    values[field] = kind.scalar.read(self._content[field])
                except (ValueError, OverflowError):
                    self.problem(field, f"{self._finding(field)}, allowed is {kind.scalar.one}")
            elif field != "step":
                self.problem(field, f"is missing; {type_name} needs it")
        if values.get("step", 1) <= 0:
            self.problem("step", f"{self._finding('step')}, allowed is {kind.scalar.one} above 0")
        if "min" in values and "max" in values and values["min"] > values["max"]:
            self.problem("min", f"{values['min']} is greater than max, {values['max']}")
        return values

    def _options(self, kind: ParameterType) -> dict[str, Any]:
        options = self._content.get("options")
        try:
            if not isinstance(options, list) or not options:
                raise ValueError
            return {"options": list(dict.fromkeys(map(kind.scalar.read, options)))}
        except (ValueError, OverflowError):
            allowed = f"allowed is a list of {kind.scalar.many} that is not empty"
            self.problem("options", f"{self._finding('options')}, {allowed}")
            return {}

    def _finding(self, field: str) -> str:
        return f"found {found(self._content[field])}" if field in self._content else "is missing"


def _warn_of_unknown(table: Mapping[str, Any], known: Sequence[str], key: str, warnings: list[str]) -> None:
    warnings += [
        f"{key}.{field}: unknown and ignored{did_you_mean(field, known)}" for field in table if field not in known
    ]
