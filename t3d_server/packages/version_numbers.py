"""The version numbers of algorithms in the store: which are published, which were, and which one is free."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from t3d_server.packages.manifest import VERSION
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import ALGORITHMS

_FILE = re.compile(rf"(?P<number>{VERSION.pattern})\.(?P<kind>json|removed)")


@dataclass(frozen=True)
class Numbers:
    """The version numbers of one algorithm, newest first.

    Attributes:
        published: those that have a record.
        removed: those that have a tombstone alone.
    """

    published: list[str]
    removed: list[str]

    def free_after(self, number: str) -> str:
        """The next patch version that is not taken."""
        major, minor, patch = _order(number)
        later = (f"{major}.{minor}.{each}" for each in itertools.count(patch + 1))
        return next(each for each in later if each not in (*self.published, *self.removed))


def list_numbers(store: ObjectStore, name: str | None = None) -> dict[str, Numbers]:
    """The version numbers of all algorithms, or of one, by name; also of those of which none is published."""
    found: dict[str, dict[str, set[str]]] = {}
    for stat in store.list(ALGORITHMS if name is None else f"{ALGORITHMS}{name}/"):
        algorithm, _, file = stat.key.removeprefix(ALGORITHMS).partition("/")
        if match := _FILE.fullmatch(file):
            kinds = found.setdefault(algorithm, {"json": set(), "removed": set()})
            kinds[match["kind"]].add(match["number"])
    return {
        algorithm: Numbers(_newest_first(kinds["json"]), _newest_first(kinds["removed"] - kinds["json"]))
        for algorithm, kinds in sorted(found.items())
    }


def _newest_first(numbers: set[str]) -> list[str]:
    return sorted(numbers, key=_order, reverse=True)


def _order(number: str) -> tuple[int, ...]:
    return tuple(map(int, number.split(".")))
