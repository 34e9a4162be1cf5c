"""What a manifest may declare of a parameter, and what is said of a declaration that breaks a rule."""

# ruff: noqa: E501  # exact messages, and lines of the module spec
from __future__ import annotations

import pytest
import tomli

from t3d_server.errors import Problem
from t3d_server.models import Parameter
from t3d_server.packages.parameter_config import parse_parameter
from t3d_server.packages.parameters import TYPES

OF_THE_SPEC = """
p = [
    {name = "some_string_parameter", description = "d", config = {type = "string", default = "hello", adjustable = true}},
    {name = "some_int_parameter", description = "d", config = {type = "int", default = 42, adjustable = true}},
    {name = "some_float_parameter", description = "d", config = {type = "float", default = 3.14, adjustable = true}},
    {name = "some_bool_parameter", description = "d", config = {type = "bool", default = true, adjustable = true}},
    {name = "some_int_range_parameter", description = "d", config = {type = "int_range", default = 42, min = 0, max = 100, step = 1, adjustable = true}},
    {name = "some_float_range_parameter", description = "d", config = {type = "float_range", default = 3.14, min = 0.0, max = 10.0, step = 0.1, adjustable = true}},
    {name = "some_string_enum_parameter", description = "d", config = {type = "string_enum", default = "hello", options = ["hello", "world"], adjustable = true}},
    {name = "some_int_enum_parameter", description = "d", config = {type = "int_enum", default = 42, options = [42, 43, 44], adjustable = true}},
    {name = "some_float_enum_parameter", description = "d", config = {type = "float_enum", default = 3.14, options = [3.14, 3.15, 3.16], adjustable = true}},
    {name = "some_string_list_parameter", description = "d", config = {type = "string_list", default = ["hello", "world"], adjustable = true}},
    {name = "some_int_list_parameter", description = "d", config = {type = "int_list", default = [42, 43, 44], adjustable = true}},
    {name = "some_float_list_parameter", description = "d", config = {type = "float_list", default = [3.14, 3.15, 3.16], adjustable = true}},
    {name = "some_bool_list_parameter", description = "d", config = {type = "bool_list", default = [true, false, true], adjustable = true}},
]
"""


def parse(toml: str) -> tuple[Parameter | None, list[str], list[str]]:
    """The parameter that a TOML table declares, the problems and the warnings."""
    problems: list[Problem] = []
    warnings: list[str] = []
    declared = parse_parameter(tomli.loads(f"p = {{{toml}}}")["p"], "p", problems, warnings)
    return declared, list(map(str, problems)), warnings


def config(text: str) -> str:
    return f'name = "n", description = "d", config = {{{text}}}'


def test_every_parameter_of_the_module_spec_is_read() -> None:
    """Each with all that its `config` says."""
    problems: list[Problem] = []
    warnings: list[str] = []
    entries = tomli.loads(OF_THE_SPEC)["p"]
    parameters = [parse_parameter(entry, "p", problems, warnings) for entry in entries]
    assert (problems, warnings) == ([], [])
    assert [entry["config"]["type"] for entry in entries] == list(TYPES)
    for entry, parameter in zip(entries, parameters, strict=True):
        assert parameter is not None
        expected = {"name": entry["name"], "description": "d", **entry["config"]}
        assert parameter.model_dump(exclude_none=True) == expected


@pytest.mark.parametrize(("text", "adjustable"), [("", True), (", adjustable = false", False)])
def test_a_parameter_is_adjustable_unless_it_says_otherwise(text: str, adjustable: bool) -> None:
    declared, _, warnings = parse(config(f'type = "int", default = 1{text}'))
    assert declared is not None
    assert (declared.adjustable, warnings) == (adjustable, [])


def test_the_flat_form_of_the_last_example_of_the_spec_is_read_with_warnings() -> None:
    declared, _, warnings = parse('name = "n", type = "str", default = "hello", description = "d"')
    assert declared == Parameter(name="n", description="d", type="string", default="hello")
    assert warnings == [
        "p: `type`, `default` and the like belong in `config = {...}`; they were read from the entry itself",
        'p.type: "str" is read as "string"',
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('type = "int", default = 1, mn = 0', "p.config.mn: unknown and ignored"),
        (
            'type = "int_range", default = 1, min = 0, max = 3, stepp = 1',
            "p.config.stepp: unknown and ignored; did you mean 'step'?",
        ),
    ],
)
def test_a_field_that_the_type_does_not_have_is_a_warning(text: str, warning: str) -> None:
    assert parse(config(text))[2] == [warning]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            'name = "n", description = "d"',
            'config: is missing; a table is needed, such as {type = "int", default = 1, adjustable = true}',
        ),
        (
            'description = "d", config = {type = "int", default = 1}',
            "name: is missing; it gives how `args` names it",
        ),
        (
            'name = "n", config = {type = "int", default = 1}',
            "description: is missing; it gives a help text for users",
        ),
        (
            config('type = "int_rang", default = 1'),
            "config.type: found 'int_rang' (string), allowed are string, int, float, bool, int_range, float_range, "
            "string_enum, int_enum, float_enum, string_list, int_list, float_list, bool_list; did you mean 'int_range'?",
        ),
        (config('type = "int"'), "config.default: is missing; it is the value where a run gives none"),
        (config('type = "int", default = "1"'), "config.default: found '1' (string), allowed is an integer"),
        (
            config('type = "bool_list", default = [1]'),
            "config.default: found [1] (list), allowed is a list of booleans",
        ),
        (
            config('type = "int", default = 1, adjustable = 1'),
            "config.adjustable: found 1 (integer), allowed is true or false",
        ),
        (config('type = "int_range", default = 1, min = 0'), "config.max: is missing; int_range needs it"),
        (
            config('type = "int_range", default = 9, min = 0, max = 3'),
            "config.default: found 9 (integer), allowed is an integer from 0 to 3",
        ),
        (config('type = "int_range", default = 1, min = 3, max = 0'), "config.min: 3 is greater than max, 0"),
        (
            config('type = "float_range", default = 1, min = 0, max = inf'),
            "config.max: found inf (float), allowed is a number",
        ),
        (
            config('type = "int_range", default = 1, min = 0, max = 3, step = 0'),
            "config.step: found 0 (integer), allowed is an integer above 0",
        ),
        (
            config('type = "int_enum", default = 1, options = []'),
            "config.options: found [] (list), allowed is a list of integers that is not empty",
        ),
        (
            config('type = "string_enum", default = "a"'),
            "config.options: is missing, allowed is a list of strings that is not empty",
        ),
        (
            config('type = "string_enum", default = "c", options = ["a", "b"]'),
            "config.default: found 'c' (string), allowed is one of 'a', 'b'",
        ),
    ],
)
def test_a_broken_rule_is_named_with_key_finding_and_what_is_allowed(toml: str, problem: str) -> None:
    assert parse(toml)[:2] == (None, [f"p.{problem}"])
