"""Values that are not returned are reported where that is sure."""

from __future__ import annotations

import textwrap

import pytest

from t3d_server.packages.lint.returns import check_returns
from tests.packages.lint.findings import findings


@pytest.mark.parametrize(
    ("body", "is_reported"),
    [
        ("result = data * 2", True),
        ("def inner(): return 1\n        inner()", True),
        ("if args:\n            return", True),
        ("for x in data:\n            return x", False),
        ("with data:\n            yield data", False),
        ("raise NotImplementedError", False),
        ("...", False),
        ('"""Shows what it will do."""', False),
    ],
)
def test_a_forgotten_return_is_reported(body: str, is_reported: bool) -> None:
    code = f"class Runner(Base):\n    def inference(self, data, args):\n        {body}\n"
    warnings = ["Runner.py:2: inference returns nothing; is a `return` missing?"] if is_reported else []
    assert findings(check_returns, {"Runner.py": code}) == warnings


@pytest.mark.parametrize(
    ("body", "is_reported"),
    [
        ("if args: return 1\nelif data: x = 1\nelse: return 2", True),
        ("if args: return 1", True),
        ("if args:\n  if data: x = 1\n  else: return 2\nelse: return 3", True),
        ("if args: return 1\nself.log_message('none')", True),
        ("if args: return 1\nelse: return 2", False),
        ("if args: return 1\nreturn 2", False),
        ("if args: return 1\nraise ValueError", False),
        ("if args: return 1\nelif data: return 2", False),
        ("if args: return 1\nif not args: return 2", False),
        ("if args: return 1\nself.fail()", False),
        ("if args: return 1\nassert False", False),
        ("if args: return 1\nelse:\n  with data: return 2", False),
        ("if args: return\nreturn 2", False),
        ("while True:\n  if args: return 1", False),
        ("try: return 1\nexcept ValueError: pass", False),
        ("match args:\n  case 1: return 1\n  case 2: return 2", False),
        ("if args: yield 1", False),
    ],
)
def test_a_branch_without_a_return_is_reported_where_it_is_sure(body: str, is_reported: bool) -> None:
    method = "    def inference(self, data, args):\n" + textwrap.indent(body, " " * 8)
    expected = "Runner.py:2: inference returns a value in some branches, and nothing in another; is a `return` missing?"
    warnings = findings(check_returns, {"Runner.py": f"class Runner(Base):\n{method}\n"})
    assert warnings == ([expected] if is_reported else [])
