"""What is kept for some time only: how old it is, the id in its key tells, or else the time at which it was stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from t3d_server.clock import SYSTEM_CLOCK, Clock
from t3d_server.errors import ExpiredError, ObjectNotFoundError
from t3d_server.ids import ID_LENGTH, first_id, is_id, milliseconds_of, time_of
from t3d_server.storage.base import ObjectStore

SLACK_S = 600.0
"""What has expired stays this much longer: a run that was just accepted is seen until then, and spares its inputs."""


@dataclass(frozen=True)
class Retention:
    """How long objects of a kind are kept, from the time in their id on.

    Attributes:
        what: the kind, as messages name it.
        keep_s: how long; None keeps them for ever.
        setting: the setting that says so.
        clock: the clock.
        slack_s: see `SLACK_S`.
    """

    what: str
    keep_s: float | None
    setting: str
    clock: Clock = SYSTEM_CLOCK
    slack_s: float = SLACK_S

    def __bool__(self) -> bool:
        """Whether anything expires."""
        return self.keep_s is not None

    def expired(self, identifier: str) -> ExpiredError | None:
        """What to raise about something that has expired; None if it has not, or is no id."""
        if self.keep_s is None or not is_id(identifier):
            return None
        # As numbers: what only looks like an id may be of a year that `datetime` cannot hold.
        if milliseconds_of(identifier) / 1000 + self.keep_s > self.clock.now().timestamp():
            return None
        made = time_of(identifier)
        end = made + timedelta(seconds=self.keep_s)
        return ExpiredError(
            f"{self.what} {identifier} of {made:%Y-%m-%d %H:%M:%S} UTC has expired on {end:%Y-%m-%d %H:%M:%S} UTC: "
            f"it was kept for {self.keep_s:g} s ({self.setting})"
        )

    def removable_before(self) -> datetime | None:
        """What was made before may be removed; None if nothing may."""
        return None if self.keep_s is None else self.clock.now() - timedelta(seconds=self.keep_s + self.slack_s)


def remove_expired(
    store: ObjectStore, folder: str, suffix: str, retention: Retention, *, spared: Collection[str] = (), limit: int
) -> int:
    """Remove the oldest objects of a folder of `<id>...<suffix>`, which is in the order of time; those that may stay
    are not looked at.

    Args:
        store: the store.
        folder: prefix of the keys.
        suffix: end of the keys.
        retention: how long they are kept.
        spared: ids that stay.
        limit: most objects to remove.

    Returns:
        How many were removed.
    """
    before = retention.removable_before()
    if before is None:
        return 0
    doomed: list[str] = []
    for stat in store.list(folder):
        if stat.key >= folder + first_id(before) or len(doomed) == limit:
            break
        identifier = stat.key.removeprefix(folder).removesuffix(suffix)[:ID_LENGTH]
        if is_id(identifier) and identifier not in spared:
            doomed.append(stat.key)
    store.delete(*doomed)
    return len(doomed)


def remove_expired_unordered(
    store: ObjectStore, folder: str, retention: Retention, *, limit: int, stays: Callable[[str], bool] | None = None
) -> int:
    """Remove objects of a folder whose keys carry no time, and which were stored long enough ago; it is listed whole.

    Args:
        store: the store.
        folder: prefix of the keys.
        retention: how long they are kept.
        limit: most objects to remove.
        stays: whether an object that has expired stays nevertheless, by its key.

    Returns:
        How many were removed.
    """
    before = retention.removable_before()
    if before is None:
        return 0
    expired = (stat.key for stat in store.list(folder) if stat.stored_at < before)
    doomed = list(islice((key for key in expired if stays is None or not stays(key)), limit))

    for key in doomed:
        with suppress(ObjectNotFoundError):
            if store.stat(key).stored_at < before:  # else it was stored anew since it was listed
                store.delete(key)
    return len(doomed)
