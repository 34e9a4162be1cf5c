"""The clock that everything with deadlines is given, so that a simulation can give another one."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """UTC time to the millisecond, for records and logs; it may be set back."""

    def seconds(self) -> float:
        """Seconds since some moment. Never set back, and goes on while the machine sleeps."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def seconds(self) -> float:
        """See `Clock.seconds`."""
        return time.clock_gettime(_COUNTS_SLEEP)


_COUNTS_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS: its monotonic clock
SYSTEM_CLOCK = SystemClock()
