"""How messages about an author's or a client's input are worded."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

_KINDS = {str: "string", bool: "boolean", int: "integer", float: "float", list: "list", dict: "table"}
_LONGEST = 60


def found(value: Any) -> str:
    """A value and its kind, short enough for a line: `5 (integer)`."""
    if value is None:
        return "nothing (null)"
    kind = next((name for base, name in _KINDS.items() if type(value) is base), type(value).__name__)
    if isinstance(value, Mapping):
        return f"a {kind}"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'} ({kind})"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or "" where nothing known begins with `word` or is close to it."""
    # Authors and clients get the case wrong more often than the letters.
    by_folded = {name.casefold(): name for name in known}
    folded = word.casefold()
    begun = [name for name in by_folded if len(folded) > 2 and name.startswith(folded)]
    close = [min(begun, key=len)] if begun else difflib.get_close_matches(folded, by_folded, n=1)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def not_found(module: str, own: Collection[str], where: str) -> str:
    """The fault of importing a module that neither the folder, with its `own` ones, nor the Python environment has."""
    hint = did_you_mean(module, own) or "; what provides it has to be in [project] dependencies, and installed"
    return f"the folder has no {module}.py, and no package {module!r} is installed {where}{hint}"


def counted(count: int, noun: str) -> str:
    """A number of items: `1 asset`, `2 assets`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
