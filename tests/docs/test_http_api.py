"""The reference of the HTTP API says what the API is."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_up_to_date() -> None:
    text = (DOCS / "http-api.md").read_text("utf-8")
    made = runpy.run_path(str(DOCS / "http_api.py"))["with_reference"](text)
    assert text == made, "run `make docs`"
