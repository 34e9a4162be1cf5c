"""Names that nothing binds are reported; those that may be bound are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from t3d_server.packages.lint.names import check_names
from tests.packages.lint.findings import findings

ROOT = Path(__file__).parents[3]


def test_a_forgotten_import_is_reported_once() -> None:
    code = """
        def load():
            return np.zeros(3)

        class Runner:
            def inference(self, data, args):
                return np.ones(data.shape)
    """
    assert findings(check_names, {"Runner.py": code}) == ["Runner.py:3: np is used, but nothing defines or imports it"]


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nnp.zeros(1)",
        "import a.b\na.b.c",
        "from a import *\nnp.zeros(1)",
        "exec('np = 1')\nnp",
        "globals().update(np=1)\nnp",
        "def f():\n    global np\n    np = 1\ndef g():\n    return np",
        "try:\n    import cupy as np\nexcept ImportError as error:\n    print(error)\n    np = None\nnp",
        "def f():\n    return later()\ndef later():\n    return __name__, __file__, __doc__, f",
        "class A:\n    x = 1\n    name = x, __qualname__, __module__\n    def f(self):\n        return __class__",
        "def f(a, *b, c=1, **d):\n    def g():\n        nonlocal a\n        a = 2\n    return [x for x in b], c, d, g",
        "match x():\n    case {1: y, **rest}:\n        y, rest\n    case [*z]:\n        z\ndef x():\n    return 1",
        "if (n := 3) > 2:\n    n\nlambda q: q\nwith open('f') as file:\n    file\nfor i in [1]:\n    i\ndel i",
        "from __future__ import annotations\ndef f(x: int) -> list[str]:\n    y: float = 1.0\n    return y",
        "__version__ = '1'\n__all__ = ['x']\nprint(__version__, __spec__, __package__, __builtins__, __loader__)",
    ],
)
def test_what_is_bound_somehow_is_not_reported(code: str) -> None:
    assert findings(check_names, {"Runner.py": code}) == []


def test_code_of_all_kinds_refers_to_nothing_that_is_not_there() -> None:
    """Our own, as an example."""
    for path in [*(ROOT / "t3d_server" / "packages").rglob("*.py"), *(ROOT / "algorithms").rglob("*.py")]:
        assert findings(check_names, {path.name: path.read_text("utf-8")}) == [], path
