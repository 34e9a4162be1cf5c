"""A queue that knows how many are before each of its items, however many wait."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    """What waits, in order.

    Each item has a number; its position follows from that of the first one, less what has left in between.
    """

    def __init__(self) -> None:
        self._numbers: OrderedDict[T, int] = OrderedDict()
        self._left: list[int] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[T]:
        return iter(self._numbers)

    def add(self, item: T) -> None:
        """Put an item last."""
        self._last += 1
        self._numbers[item] = self._last

    def put_first(self, item: T) -> None:
        """Put an item first."""
        self._numbers[item] = self._first() - 1
        self._numbers.move_to_end(item, last=False)

    def take(self) -> T | None:
        """Take the first item, if there is one."""
        if not self._numbers:
            return None
        item, _ = self._numbers.popitem(last=False)
        self._forget_left()
        return item

    def remove(self, item: T) -> bool:
        """Take an item out; whether it was there."""
        number = self._numbers.pop(item, None)
        if number is None:
            return False
        insort(self._left, number)
        self._forget_left()
        return True

    def position(self, item: T) -> int | None:
        """How many items are before one; None if it is not there."""
        number = self._numbers.get(item)
        if number is None:
            return None
        return number - self._first() - bisect_left(self._left, number)

    def _first(self) -> int:
        return next(iter(self._numbers.values()), self._last + 1)

    def _forget_left(self) -> None:
        """Keep the numbers of those alone that have left from behind the first one."""
        del self._left[: bisect_left(self._left, self._first())]
