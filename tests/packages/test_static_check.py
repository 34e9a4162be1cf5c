"""What is told of code that can be parsed: names that are taken, and values that are not returned."""

from __future__ import annotations

import textwrap
from importlib.metadata import version

import pytest

from t3d_server.packages.static_check import check_code

RUNNER = b"from t3d_server.algorithm_utils import BaseRunner\nclass Runner(BaseRunner): ..."


@pytest.mark.parametrize(
    ("paths", "warning"),
    [
        (["utils_of_mine.py", "net/a.py", "files/shapes.py"], ""),
        (["numpy.py"], "numpy.py: `import numpy` gives the one that the server needs, not this one; rename it"),
        (["PIL/a.py", "PIL/b.py"], f"PIL/: hides the installed package pillow {version('pillow')}"),
        (["files/random.py"], "files/random.py: `import random` gives the module of Python's library"),
        (["t3d_server/a.py"], "t3d_server/: `import t3d_server` gives the one that the server needs"),
    ],
)
def test_names_of_other_modules_are_told(paths: list[str], warning: str) -> None:
    problems, warnings = check_code({"Runner.py": RUNNER, **dict.fromkeys(paths, b"")})

    assert problems == []
    assert len(warnings) == bool(warning)
    assert "".join(warnings).startswith(warning)


@pytest.mark.parametrize(
    ("body", "is_told"),
    [
        ("result = data * 2", True),
        ("def inner(): return 1\n        inner()", True),
        ("if args:\n            return", True),
        ("for x in data:\n            return x", False),
        ("with data:\n            yield data", False),
        ("raise NotImplementedError", False),
        ("...", False),
        ('"""Says what it will do."""', False),
    ],
)
def test_a_forgotten_return_is_told(body: str, is_told: bool) -> None:
    code = f"class Runner(Base):\n    def inference(self, data, args):\n        {body}\n"
    warnings = ["Runner.py:2: inference returns nothing; is a `return` missing?"] if is_told else []
    assert check_code({"Runner.py": code.encode()}) == ([], warnings)


@pytest.mark.parametrize(
    ("body", "is_told"),
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
def test_a_branch_without_a_return_is_told_where_it_is_sure(body: str, is_told: bool) -> None:
    method = "    def inference(self, data, args):\n" + textwrap.indent(body, " " * 8)
    warnings = check_code({"Runner.py": f"class Runner(Base):\n{method}\n".encode()})[1]
    expected = "Runner.py:2: inference returns a value in some branches, and nothing in another; is a `return` missing?"
    assert warnings == ([expected] if is_told else [])


def test_a_forgotten_breakpoint_is_told() -> None:
    code = b"import pdb\ndef f(): breakpoint()\nprint(pdb.set_trace, breakpoint)\npdb.set_trace()\n"
    _, warnings = check_code({"Runner.py": RUNNER, "code.py": code})
    assert [warning[:24] for warning in warnings[:2]] == ["code.py:2: a breakpoint:", "code.py:4: a breakpoint:"]
    assert len([warning for warning in warnings if "breakpoint" in warning]) == 2
