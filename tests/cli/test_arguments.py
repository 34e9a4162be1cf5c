"""Parameters of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from t3d_server.cli.arguments import parse_args
from t3d_server.errors import InvalidArgsError
from t3d_server.models import Parameter


def _parameter(name: str, kind: str, **config: Any) -> Parameter:
    return Parameter(name=name, description="", type=kind, **config)


PARAMETERS = [
    _parameter("label", "string", default="cell"),
    _parameter("count", "int", default=1),
    _parameter("gain", "float_range", default=1.0, min=0.0, max=9.0),
    _parameter("invert", "bool", default=False),
    _parameter("size", "int_enum", default=32, options=[32, 64]),
    _parameter("labels", "string_list", default=[]),
    _parameter("sigmas", "float_list", default=[]),
    _parameter("channels", "bool_list", default=[]),
]


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("label=7", "7"),
        ("label=a=true", "a=true"),
        ("count=3", 3),
        ("gain=.5", 0.5),
        ("invert=Yes", True),
        ("invert=false", False),
        ("size=64", 64),
        ("labels=cell", ["cell"]),
        ("labels=1, 2", ["1", "2"]),
        ('labels=["a, b", "c"]', ["a, b", "c"]),
        ("labels=", []),
        ("sigmas=2,3.5", [2, 3.5]),
        ("sigmas=[2, 3]", [2, 3]),
        ("channels=true,no", [True, False]),
    ],
)
def test_a_value_is_read_as_its_parameter_says(item: str, value: Any) -> None:
    assert parse_args([item], PARAMETERS) == {item.partition("=")[0]: value}


def test_all_that_is_wrong_is_told_with_how_to_write_it() -> None:
    items = ["gian=1", "gain=much", "invert=1", "label", "count=1", "count=2", "sigmas=a,b", "labels=[cell]"]
    with pytest.raises(InvalidArgsError) as told:
        parse_args(items, PARAMETERS)

    problems = {problem.key: problem.message for problem in told.value.problems}
    assert "NAME=VALUE is expected" in problems.pop("label")
    assert "count is given twice" in problems.pop("count=2")
    assert "did you mean 'gain'" in problems.pop("args.gian")
    assert problems.pop("args.gain") == "found 'much' (string), allowed is a number from 0.0 to 9.0"
    assert problems.pop("args.invert") == "found '1' (string), allowed is true or false"
    assert problems.pop("args.sigmas").endswith("allowed is a list of numbers, such as -a sigmas=0.5,2")
    assert problems.pop("args.labels").endswith("allowed is a list of strings, such as -a labels=cell,nucleus")
    assert not problems
