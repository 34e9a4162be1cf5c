"""Args of executions as desktop forms send them: numbers as text, null where nothing was entered, 0 and 1 for bool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from t3d_server.models import Parameter
from t3d_server.packages.parameters import TYPES


def converted(parameters: Sequence[Parameter], args: Mapping[str, Any]) -> dict[str, Any]:
    """Args in the types of their parameters, as far as there is no doubt what is meant; the rest is as it was sent.

    Args:
        parameters: the algorithm's parameters.
        args: values by parameter name, unknown ones too; None is left out, so that the default holds.
    """
    types = {each.name: TYPES[each.type].scalar.json_type for each in parameters}
    return {name: _converted(value, types.get(name)) for name, value in args.items() if value is not None}


def _converted(value: Any, json_type: str | None) -> Any:
    if isinstance(value, list):
        return [_converted(item, json_type) for item in value]
    if json_type in ("integer", "number") and isinstance(value, str) and "_" not in value:
        for read in (int, float):
            with suppress(ValueError):
                return read(value)
    if json_type == "boolean" and isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return value
