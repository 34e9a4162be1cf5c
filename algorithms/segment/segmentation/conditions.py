"""Conditions on objects, written as text: `area < 5000, solidity > 0.9`."""

import operator
import re
from dataclasses import dataclass

import numpy as np

OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
PROPERTIES = (
    "area",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "equivalent_diameter_area",
    "extent",
    "intensity_max",
    "intensity_mean",
    "intensity_min",
    "perimeter",
    "solidity",
)
"""Names of scikit-image's `regionprops`; lengths in pixels."""

_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A comparison of one property.

    Attributes:
        name: one of `PROPERTIES`.
        comparison: one of `OPERATORS`.
        value: what it is compared with, in the property's unit.
    """

    name: str
    comparison: str
    value: float

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Which of the values (N,) fulfil it, as bool (N,)."""
        fulfilled: np.ndarray = OPERATORS[self.comparison](values, self.value)
        return fulfilled


def parse(text: str) -> tuple[list[Condition], list[str]]:
    """Read conditions that are separated by commas.

    Args:
        text: such as "area < 5000, solidity > 0.9"; may be empty.

    Returns:
        The conditions, and what is wrong with the others.
    """
    conditions, problems = [], []
    for part in filter(str.strip, text.split(",")):
        try:
            conditions.append(_parse_one(part))
        except ValueError as error:
            problems.append(str(error))
    return conditions, problems


def _parse_one(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if not found:
        raise ValueError(f"`{text.strip()}` is no condition such as `area < 5000`; commas separate conditions")
    name, comparison, value = found.groups()
    if name not in PROPERTIES:
        raise ValueError(f"`{name}` is no property of objects; they have {', '.join(PROPERTIES)}")
    try:
        return Condition(name, comparison, float(value))
    except ValueError:
        raise ValueError(f"`{value}` is no number; write such as `{name} {comparison} 0.5`") from None
