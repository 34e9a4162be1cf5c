"""Faults that are put into the product, to see that the simulation finds them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}
