"""Args as desktop forms send them."""

from __future__ import annotations

from typing import Any

import pytest

from t3d_server.api.v0.args import converted
from t3d_server.models import Parameter


@pytest.mark.parametrize(
    ("kind", "sent", "meant"),
    [
        ("float", "1.5", 1.5),
        ("float_range", " 2e3 ", 2000.0),
        ("int", "7", 7),
        ("int_enum", "7.0", 7.0),
        ("int_list", ["1", 2], [1, 2]),
        ("bool", 1, True),
        ("bool", 0.0, False),
        ("bool_list", [0, True], [False, True]),
        ("float", "1,5", "1,5"),
        ("int", "1_0", "1_0"),
        ("int", True, True),
        ("bool", 2, 2),
        ("bool", "1", "1"),
        ("string", "1.5", "1.5"),
        ("string", 1, 1),
    ],
)
def test_only_what_leaves_no_doubt_is_converted(kind: str, sent: Any, meant: Any) -> None:
    parameter = Parameter(name="x", description="", type=kind, default=None)
    found = converted([parameter], {"x": sent, "unknown": "1"})
    assert found == {"x": meant, "unknown": "1"}
    assert type(found["x"]) is type(meant)


def test_null_is_left_out() -> None:
    assert converted([], {"x": None}) == {}
