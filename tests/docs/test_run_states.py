"""The table of states in the architecture says what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_states_is_up_to_date() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    made = runpy.run_path(str(DOCS / "run_states.py"))["with_table"](text)
    assert text == made, "run `make docs`"
    assert "| QUEUED | a replica begins an attempt | RUNNING |" in text
