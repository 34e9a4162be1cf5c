"""Minified code does what the author's did."""

# ruff: noqa: E501  # small modules on one line
from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from t3d_server.errors import InvalidPackageError
from t3d_server.packages.minify import minify

SOURCE = '''
"""A docstring that nobody needs."""
from __future__ import annotations
from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple
from pydantic import BaseModel, ConfigDict

PUBLIC_CONSTANT = "value" * 2
_private_global = 3

class Schema(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    long_field_name: int
    other: "list[Schema]" = []

@dataclass
class Settings:
    first_setting: int = 1
    second_setting: str = "b"

class Pair(NamedTuple):
    left_side: int
    right_side: int

def function_name(first_argument, *, keyword_argument=2, **others):
    # a comment
    local_variable = first_argument + keyword_argument
    return local_variable, local_variable, others

def positional_only(value, /, **values):
    return value, values

def uses_locals():
    very_local_name = 1
    return locals()

def evaluates():
    some_operand = 20
    other_operand = 22
    import inspect
    def evaluate_in_callers_frame(expression):
        return eval(expression, {}, inspect.currentframe().f_back.f_locals)
    return evaluate_in_callers_frame("some_operand + other_operand")

def nested():
    def inner_function():
        raise ValueError("inside")
    inner_function()

def local_model():
    class Node(BaseModel):
        child: "Node | None" = None
    return Node(child=Node())

@singledispatch
def dispatched(value):
    return "any"

@dispatched.register
def _(value: int):
    return "int"
'''


@pytest.fixture(scope="module")
def namespace() -> Iterator[dict[str, Any]]:
    module = types.ModuleType("minified_for_this_test")
    sys.modules[module.__name__] = module
    exec(compile(minify({"m.py": SOURCE.encode()})["m.py"], "m.py", "exec"), vars(module))
    yield vars(module)
    del sys.modules[module.__name__]


def test_code_gets_shorter_and_loses_comments_docstrings_and_local_names() -> None:
    text = minify(
        {"m.py": b"def f(x):\n    '''doc'''\n    # comment\n    a_long_name = x\n    return a_long_name, a_long_name\n"}
    )
    assert not any(word in text["m.py"] for word in (b"doc", b"comment", b"a_long_name"))


def test_names_that_others_use_are_kept(namespace: dict[str, Any]) -> None:
    assert {"PUBLIC_CONSTANT", "_private_global", "Schema", "Settings", "function_name"} <= set(namespace)
    extra = set(namespace) - set(re.findall(r"\w+", SOURCE))
    assert not [name for name in extra if not name.startswith("__")]


def test_fields_of_pydantic_dataclasses_and_named_tuples_are_kept(namespace: dict[str, Any]) -> None:
    schema = namespace["Schema"](long_field_name=1, other=[{"long_field_name": 2}])
    assert schema.model_dump() == {"long_field_name": 1, "other": [{"long_field_name": 2, "other": []}]}
    assert namespace["Settings"](second_setting="x").first_setting == 1
    assert namespace["Pair"](left_side=1, right_side=2).right_side == 2


def test_arguments_can_be_passed_by_name(namespace: dict[str, Any]) -> None:
    assert namespace["function_name"](first_argument=1, keyword_argument=5, more=3) == (6, 6, {"more": 3})
    assert namespace["positional_only"](1, value=2) == (1, {"value": 2})


def test_code_that_looks_at_its_local_names_finds_them(namespace: dict[str, Any]) -> None:
    assert namespace["uses_locals"]() == {"very_local_name": 1}
    assert namespace["evaluates"]() == 42
    assert namespace["local_model"]().child.child is None


def test_annotations_that_decide_what_is_called_are_kept(namespace: dict[str, Any]) -> None:
    assert namespace["dispatched"](1) == "int"


def test_functions_inside_functions_keep_their_names_for_tracebacks(namespace: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="inside") as caught:
        namespace["nested"]()
    assert [entry.name for entry in caught.traceback][-2:] == ["nested", "inner_function"]


def test_local_names_in_strings_are_kept_where_nothing_else_tells() -> None:
    """numexpr and pandas look expressions up in their caller's frame."""
    source = b"import ne\ndef f(x):\n    operand = x\n    unrelated = x\n    return ne.evaluate('operand * 2'), unrelated, unrelated\n"
    text = minify({"m.py": source})["m.py"]
    assert b"operand=" in text
    assert b"unrelated" not in text


@pytest.mark.parametrize("reader", [b"print(f.__doc__)", b"getdoc(f)", b"ConfigDict(use_attribute_docstrings=True)"])
def test_docstrings_stay_where_any_module_reads_them(reader: bytes) -> None:
    files = {"a.py": b"def f():\n    'help'\n", "b.py": b"from a import f\n" + reader}
    assert b"help" in minify(files)["a.py"]


def test_other_encodings_are_understood() -> None:
    source = "# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1")
    scope: dict[str, object] = {}
    exec(minify({"m.py": source})["m.py"], scope)
    assert scope["name"] == "é"


def test_what_cannot_be_minified_is_named() -> None:
    with pytest.raises(InvalidPackageError, match=r"bad\.py"):
        minify({"bad.py": b"("})
