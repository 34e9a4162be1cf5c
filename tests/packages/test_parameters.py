"""Values of parameters, and the schema that tells clients about them."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t3d_server.errors import InvalidArgsError, Problem
from t3d_server.models import Manifest, Parameter
from t3d_server.packages.parameter_config import parse_parameter
from t3d_server.packages.parameters import args_schema, resolve_args


def parameter(name: str, type_: str, default: Any, **config: Any) -> Parameter:
    return Parameter(name=name, description="some help", type=type_, default=default, **config)


ALL_TYPES = [
    parameter("a_string", "string", "hello"),
    parameter("an_int", "int", 42),
    parameter("a_float", "float", 3.14),
    parameter("a_bool", "bool", True),
    parameter("an_int_range", "int_range", 42, min=0, max=100, step=1),
    parameter("a_float_range", "float_range", 0.3, min=0.0, max=10.0, step=0.1),
    parameter("a_string_enum", "string_enum", "hello", options=["hello", "world"]),
    parameter("an_int_enum", "int_enum", 42, options=[42, 43, 44]),
    parameter("a_float_enum", "float_enum", 3.14, options=[3.14, 4.0]),
    parameter("a_string_list", "string_list", ["hello"]),
    parameter("an_int_list", "int_list", [42]),
    parameter("a_float_list", "float_list", [3.14]),
    parameter("a_bool_list", "bool_list", [True], adjustable=False),
]
DEFAULTS = {one.name: one.default for one in ALL_TYPES}
SCHEMA = args_schema(Manifest(name="all", version="1.0.0", description="All types.", additional_parameters=ALL_TYPES))
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
        ("a_float", math.nan, "found nan (float), allowed is a number; numbers have to be finite"),
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
    validator = jsonschema.Draft202012Validator(SCHEMA)
    try:
        resolved = resolve_args(ALL_TYPES, args)
    except InvalidArgsError:
        finite = all(math.isfinite(item) for item in _floats(args))
        assert not finite or not validator.is_valid(args)
    else:
        validator.validate(args)
        assert resolve_args(ALL_TYPES, resolved) == resolved


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=3),
    "int": st.integers(-9, 9),
    "float": st.floats(-9, 9) | st.integers(-9, 9).map(float) | st.integers(-90, 90).map(lambda tenths: tenths / 10),
    "bool": st.booleans(),
}


@st.composite
def declarations(draw: st.DrawFn) -> Parameter:
    """A parameter as a manifest may declare it."""
    type_ = draw(st.sampled_from([one.type for one in ALL_TYPES]))
    scalar, _, form = type_.partition("_")
    values = SCALARS[scalar]
    config: dict[str, Any] = {"type": type_}
    if form == "range":
        config["min"], config["default"], config["max"] = sorted(draw(st.tuples(values, values, values)))
        config["step"] = abs(draw(values)) + 1
    elif form == "enum":
        config["options"] = draw(st.lists(values, min_size=1, max_size=3))
        config["default"] = draw(st.sampled_from(config["options"]))
    else:
        config["default"] = draw(st.lists(values, max_size=2) if form == "list" else values)
    problems: list[Problem] = []
    declared = parse_parameter({"name": "p", "description": "help", "config": config}, "", problems, [])
    assert declared is not None, problems
    return declared


@given(declarations(), st.one_of(json_values, *SCALARS.values(), *(st.lists(one) for one in SCALARS.values())))
def test_the_schema_of_any_declaration_accepts_the_default_and_what_the_server_accepts(
    declared: Parameter, value: Any
) -> None:
    """Through JSON, as clients get it; and the other way round, but for NaN and infinity, which JSON has not."""
    manifest = Manifest(name="any", version="1.0.0", additional_parameters=[declared])
    schema = json.loads(json.dumps(args_schema(manifest)))
    jsonschema.Draft7Validator.check_schema(schema)  # stricter than the later ones: no option comes twice
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"p": declared.default})
    try:
        resolve_args([declared], {"p": value})
    except InvalidArgsError:
        assert not validator.is_valid({"p": value}) or not all(map(math.isfinite, _floats(value)))
    else:
        validator.validate({"p": value})


@pytest.mark.parametrize(
    "draft", [jsonschema.Draft6Validator, jsonschema.Draft7Validator, jsonschema.Draft202012Validator]
)
def test_forms_of_any_draft_start_with_defaults_that_are_valid(draft: Any) -> None:
    """`$schema` would keep generators that are set to another draft from rendering."""
    draft.check_schema(SCHEMA)
    assert "$schema" not in SCHEMA
    defaults = {name: value["default"] for name, value in SCHEMA["properties"].items()}
    assert defaults == DEFAULTS
    draft(SCHEMA).validate(defaults)
    assert not draft(SCHEMA).is_valid({"a_strin": "hello"})


def test_the_schema_has_only_the_keywords_that_forms_know_and_two_of_ours() -> None:
    known = {"title", "description", "type", "default", "minimum", "maximum", "enum", "items", "x-step", "x-adjustable"}
    assert set().union(*SCHEMA["properties"].values()) == known
    assert (SCHEMA["title"], SCHEMA["description"]) == ("all 1.0.0", "All types.")
    assert SCHEMA["properties"]["a_bool_list"]["x-adjustable"] is False


def test_the_schema_describes_a_range_for_a_form() -> None:
    assert SCHEMA["properties"]["an_int_range"] == {
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
