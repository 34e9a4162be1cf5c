"""When the store is away, and from whom."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.loop import SimLoop


@dataclass(frozen=True)
class Outage:
    """A time in which the store is away.

    Attributes:
        begin_s: when it begins.
        end_s: when it ends.
        site: the cluster that it is away from; "" for all.
        silence_s: how long a call takes until it fails.
    """

    begin_s: float
    end_s: float
    site: str
    silence_s: float


class Outages:
    """All outages of a simulation."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._outages: list[Outage] = []

    def begin(self, for_s: float, site: str, silence_s: float) -> None:
        """The store is away from now on."""
        now_s = self._loop.now_s
        self._outages.append(Outage(now_s, now_s + for_s, site, silence_s))

    def silence_s(self, site: str) -> float | None:
        """How long a call of a cluster takes until it fails; None where the store is there."""
        now_s = self._loop.now_s
        for outage in self._outages:
            if outage.begin_s <= now_s < outage.end_s and outage.site in ("", site):
                return outage.silence_s
        return None

    def clear(self) -> None:
        """The store is there for all, from now on."""
        self._outages.clear()
