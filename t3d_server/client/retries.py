"""Retries of requests: with growing pauses, and for a limited time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from t3d_server.errors import T3dError

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 3.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Failure(Exception):  # noqa: N818  # it never leaves the client
    """A failed attempt.

    Attributes:
        error: what the caller gets if this was the last attempt.
        for_s: how long to retry, from the first failure on; 0 if a retry is useless or may do harm.
        after_s: delay that the server asks for.
    """

    def __init__(self, error: T3dError, *, for_s: float, after_s: float = 0.0) -> None:
        super().__init__(error)
        self.error = error
        self.for_s = for_s
        self.after_s = min(after_s, for_s)


class Retries:
    """When to try again: after growing pauses, and for a limited time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count the next failure as the first one: the server has answered."""
        self._failures = 0
        self._delay_s = _FIRST_DELAY_S

    def pause(self, failure: Failure) -> None:
        """Wait until it is time to try again; raise the error if there is no retry."""
        now = time.monotonic()
        self._failures += 1
        if self._failures == 1:
            self._first = now
        delay_s = max(self._delay_s, failure.after_s)
        if now + delay_s > self._first + failure.for_s:
            raise failure.error from failure.__cause__
        if self._failures == 2:  # a connection that only broke off works again by now
            logger.warning("Waiting for the server, %g s at most: %s", failure.for_s, failure.error.message)
        time.sleep(delay_s)
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)


def with_retries(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, after retries where they can help and do no harm.

    Raises:
        T3dError: the error of the last `Failure`.
    """
    retries = Retries()
    while True:
        try:
            return attempt()
        except Failure as failure:
            retries.pause(failure)
