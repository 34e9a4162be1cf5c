"""The virtual clock as one process reads it, and ids that carry its time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from unittest import mock

import t3d_server.ids
from tests.simulation.loop import SimLoop
from tests.simulation.processes import Process

BASE = datetime(2026, 3, 1, tzinfo=UTC)
"""When each simulation begins."""


def wall_time(loop: SimLoop, process: Process | None) -> datetime:
    """The wall clock of a process, to the millisecond."""
    now = BASE + timedelta(seconds=loop.now_s + (process.skew_s if process is not None else 0.0))
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class SimClock:
    """See `t3d_server.clock.Clock`.

    Args:
        loop: the event loop.
        process: whose clock it is.
    """

    def __init__(self, loop: SimLoop, process: Process | None) -> None:
        self._loop = loop
        self._process = process

    def now(self) -> datetime:
        """See `Clock.now`."""
        return wall_time(self._loop, self._process)

    def seconds(self) -> float:
        """See `Clock.seconds`: it counts sleep."""
        return 1000.0 + self._loop.now_s


class _Uuids:
    """In place of the module `uuid_utils`."""

    def __init__(self, loop: SimLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._numbers = itertools.count(1)

    def uuid7(self) -> str:
        """An id of this virtual time."""
        digits = f"{round(wall_time(self._loop, self._loop.process).timestamp() * 1000):012x}"
        number = next(self._numbers)
        return (
            f"{digits[:8]}-{digits[8:]}-7{number >> 14 & 0xFFF:03x}-{0x8000 | number & 0x3FFF:04x}-"
            f"{self._rng.getrandbits(48):012x}"
        )


@contextmanager
def virtual_ids(loop: SimLoop, rng: random.Random) -> Iterator[None]:
    """Have ids carry virtual time, and the same seed give the same ids."""
    with (
        mock.patch.object(t3d_server.ids, "uuid_utils", _Uuids(loop, rng)),
        mock.patch.object(t3d_server.ids, "_numbers", itertools.count()),
    ):
        yield
