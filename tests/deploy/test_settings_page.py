"""`docs/settings.md` tells of every setting."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from t3d_server.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(T3D_\w+)` \|([^|]*)\|(?: `([^|`]*)`)? \| [^|]+ \|$", re.MULTILINE)


def written(default: Any) -> str:
    """A default as it would stand in the environment; empty for none."""
    return "" if default in (None, {}, []) else json.dumps(default).strip('"').removesuffix(".0")


def unit(name: str) -> str:
    """Unit of a setting, as its name tells it."""
    ends = {"_s": "s", "_bytes": "bytes", "_num_cpus": "CPUs", "_num_gpus": "GPUs"}
    return next((unit for end, unit in ends.items() if f"_{name}".endswith(end)), "")


def test_the_page_has_every_setting_with_its_unit_and_default() -> None:
    rows = {name: (unit.strip(), default) for name, unit, default in ROW.findall(PAGE.read_text("utf-8"))}
    assert rows == {
        f"T3D_{name.upper()}": (unit(name), written(field.default)) for name, field in Settings.model_fields.items()
    }
