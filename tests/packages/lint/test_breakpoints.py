"""Breakpoints that were left in the code are reported."""

from __future__ import annotations

from t3d_server.packages.lint.breakpoints import check_breakpoints
from tests.packages.lint.findings import findings


def test_a_forgotten_breakpoint_is_reported() -> None:
    code = "import pdb\ndef f(): breakpoint()\nprint(pdb.set_trace, breakpoint)\npdb.set_trace()\n"
    warnings = findings(check_breakpoints, {"Runner.py": "", "code.py": code})
    assert [warning[:24] for warning in warnings] == ["code.py:2: a breakpoint:", "code.py:4: a breakpoint:"]
