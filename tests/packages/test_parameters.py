"""Values of parameters, and the schema that tells clients about them."""

from __future__ import annotations

import math
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t3d_server.errors import InvalidArgsError
from t3d_server.models import Parameter
from t3d_server.packages.parameters import args_schema, resolve_args


def parameter(name: str, type_: str, default: Any, **config: Any) -> Parameter:
    return Parameter(name=name, description="some help", type=type_, default=default, **config)


ALL_TYPES = [
    parameter("a_string", "string", "hello"),
    parameter("an_int", "int", 42),
    parameter("a_float", "float", 3.14),
    parameter("a_bool", "bool", True),
    parameter("an_int_range", "int_range", 42, min=0, max=100, step=1),
    parameter("a_float_range", "float_range", 3.14, min=0.0, max=10.0),
    parameter("a_string_enum", "string_enum", "hello", options=["hello", "world"]),
    parameter("an_int_enum", "int_enum", 42, options=[42, 43, 44]),
    parameter("a_float_enum", "float_enum", 3.14, options=[3.14, 4.0]),
    parameter("a_string_list", "string_list", ["hello"]),
    parameter("an_int_list", "int_list", [42]),
    parameter("a_float_list", "float_list", [3.14]),
    parameter("a_bool_list", "bool_list", [True], adjustable=False),
]
DEFAULTS = {one.name: one.default for one in ALL_TYPES}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["hello", 42, 4]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def test_every_parameter_takes_its_default() -> None:
    assert resolve_args(ALL_TYPES, {}) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "given_value", "resolved"),
    [
        ("an_int", 7.0, 7),
        ("an_int", np.int64(7), 7),
        ("a_float", 7, 7.0),
        ("a_float", np.float32(0.5), 0.5),
        ("a_float_range", 10, 10.0),
        ("a_float_enum", 4, 4.0),
        ("an_int_list", [1.0, 2], [1, 2]),
        ("a_float_list", (1, 2.5), [1.0, 2.5]),
        ("a_bool_list", [], []),
    ],
)
def test_numbers_arrive_in_the_parameters_own_type(name: str, given_value: Any, resolved: Any) -> None:
    value = resolve_args(ALL_TYPES, {name: given_value})[name]
    assert value == resolved
    assert type(value) is type(resolved)
    if isinstance(value, list):
        assert [type(item) for item in value] == [type(item) for item in resolved]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a_string", 1, "found 1 (integer), allowed is a string"),
        ("an_int", True, "found true (boolean), allowed is an integer"),
        ("an_int", 7.5, "found 7.5 (float), allowed is an integer"),
        ("an_int", "7", "found '7' (string), allowed is an integer"),
        ("an_int", math.inf, "found inf (float), allowed is an integer"),
        ("a_float", math.nan, "found nan (float), allowed is a number"),
        ("a_float", False, "found false (boolean), allowed is a number"),
        ("a_bool", 1, "found 1 (integer), allowed is true or false"),
        ("an_int_range", 101, "found 101 (integer), allowed is an integer from 0 to 100"),
        ("a_float_range", -0.1, "found -0.1 (float), allowed is a number from 0.0 to 10.0"),
        ("a_string_enum", "moon", "found 'moon' (string), allowed is one of 'hello', 'world'"),
        ("an_int_enum", 45, "found 45 (integer), allowed is one of 42, 43, 44"),
        ("a_string_list", "hello", "found 'hello' (string), allowed is a list of strings"),
        ("an_int_list", [1, None], "found [1, None] (list), allowed is a list of integers"),
        ("a_bool_list", [0], "found [0] (list), allowed is a list of booleans"),
        ("a_float", None, "found nothing (null), allowed is a number"),
        ("an_intt", 1, f"unknown; the parameters are: {', '.join(DEFAULTS)}; did you mean 'an_int'?"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_is_allowed(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArgsError) as caught:
        resolve_args(ALL_TYPES, {name: value})
    assert [(problem.key, problem.message) for problem in caught.value.problems] == [(f"args.{name}", message)]


def test_all_problems_come_at_once() -> None:
    with pytest.raises(InvalidArgsError) as caught:
        resolve_args(ALL_TYPES, {"nonsense": 1, "an_int": "x", "a_bool": 0})
    assert {problem.key for problem in caught.value.problems} == {"args.nonsense", "args.an_int", "args.a_bool"}


def test_a_run_that_changes_its_args_does_not_change_the_defaults() -> None:
    resolve_args(ALL_TYPES, {})["an_int_list"].append(1)
    assert resolve_args(ALL_TYPES, {})["an_int_list"] == [42]


@given(st.dictionaries(st.sampled_from(list(DEFAULTS)), json_values, max_size=3))
def test_args_are_resolved_exactly_if_they_fit_the_schema(args: dict[str, Any]) -> None:
    """The schema has no words for NaN and infinity, which JSON has not either."""
    validator = jsonschema.Draft202012Validator(args_schema(ALL_TYPES))
    try:
        resolved = resolve_args(ALL_TYPES, args)
    except InvalidArgsError:
        finite = all(math.isfinite(item) for item in _floats(args))
        assert not finite or not validator.is_valid(args)
    else:
        validator.validate(args)
        assert resolve_args(ALL_TYPES, resolved) == resolved


def test_the_schema_describes_a_range_for_a_form() -> None:
    assert args_schema(ALL_TYPES)["properties"]["an_int_range"] == {
        "title": "an_int_range",
        "description": "some help",
        "type": "integer",
        "default": 42,
        "minimum": 0,
        "maximum": 100,
        "x-step": 1,
        "x-adjustable": True,
    }


def _floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        return _floats(list(value.values()))
    if isinstance(value, list):
        return [number for item in value for number in _floats(item)]
    return [value] if isinstance(value, float) else []
