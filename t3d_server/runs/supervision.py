"""Sees to it that runs which are worked on end: deadlines, the wish to stop, and replicas that have died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from t3d_server.models import RunFailure, RunStatus, utc_now
from t3d_server.runs.attempts import AttemptKey
from t3d_server.runs.entry import Entry
from t3d_server.runs.lanes import Dispatcher, Lane
from t3d_server.runs.log import run_fields
from t3d_server.runs.tasks import Tasks

logger = logging.getLogger(__name__)

WATCH_S = 1.0
KILL_RETRY_S = 5.0

CANCELLED = RunFailure(code="cancelled", type="RunCancelled", message="the run was cancelled")
_ADVICE = "Call set_progress in long loops, so that a run can be stopped at once."


class Supervisor:
    """Watches the runs that are worked on.

    Args:
        dispatcher: tells of replicas, and ends them.
        live: the runs that have not ended, by id.
        lost: what to do about an attempt whose replica has ended.
        grace_s: time that a run which is to stop has for its next call back; then its replica is ended.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        live: Mapping[str, Entry],
        lost: Callable[[Entry, str], Awaitable[None]],
        grace_s: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._live = live
        self._lost = lost
        self._grace_s = grace_s
        self._followed: dict[AttemptKey, Entry] = {}
        self._following: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._killed: set[str] = set()

    def started(self, entry: Entry) -> None:
        """An attempt goes on: it has its time limit, from its start."""
        run = entry.run
        if entry.stop is not None:
            self._give_grace(entry)
        elif run.timeout_s is not None and run.started_at is not None:
            left_s = run.timeout_s - (utc_now() - run.started_at).total_seconds()
            self._later(entry, max(0.0, left_s), self._time_out)

    def ended(self, entry: Entry) -> None:
        """An attempt has ended: it has no time limit any more."""
        if (timer := entry.timers.pop("stop", None)) is not None:
            timer.cancel()

    def stop(self, entry: Entry, failure: RunFailure) -> None:
        """Have a run stop at its next call back, or soon by force; the first reason counts."""
        if entry.stop is None:
            entry.stop = failure
            self._give_grace(entry)

    def follow(self, entry: Entry) -> None:
        """Notice by itself if the replica of an attempt dies: there is no open call that would tell."""
        if entry.attempt is not None:
            self._followed[entry.attempt] = entry
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow())

    def has_killed(self, replica: str) -> bool:
        """Whether a replica is ended, or was, by force: not because of every run that it worked on."""
        return replica in self._killed

    def followed_lanes(self) -> set[Lane]:
        """Where attempts are followed."""
        return {entry.lane for entry in self._followed.values()}

    async def _follow(self) -> None:
        while self._followed:
            await asyncio.sleep(WATCH_S)
            for attempt, entry in list(self._followed.items()):
                if not self._goes_on(entry, attempt):
                    del self._followed[attempt]
                elif await self._is_gone(attempt.replica):
                    del self._followed[attempt]
                    await self._lost(entry, attempt.replica)

    async def _is_gone(self, replica: str) -> bool:
        try:
            return await self._dispatcher.is_gone(replica)
        except Exception:  # the cluster may be busy with itself; it is asked again
            logger.exception("the cluster does not tell of the replica %s", replica)
            return False

    def _goes_on(self, entry: Entry, attempt: AttemptKey) -> bool:
        return self._live.get(entry.run.id) is entry and entry.ending is None and entry.attempt == attempt

    def _later(self, entry: Entry, after_s: float, call: Callable[[Entry], None]) -> None:
        self.ended(entry)
        entry.timers["stop"] = asyncio.get_running_loop().call_later(after_s, call, entry)

    def _time_out(self, entry: Entry) -> None:
        message = f"the run took longer than its limit of {entry.run.timeout_s:g} s"
        entry.note("WARNING", f"{message}: it is told to stop")
        self.stop(entry, RunFailure(code="timeout", type="TimeoutError", message=message))

    def _give_grace(self, entry: Entry) -> None:
        self._later(entry, self._grace_s, self._begin_to_kill)

    def _begin_to_kill(self, entry: Entry) -> None:
        self._tasks.start(self._kill(entry))

    async def _kill(self, entry: Entry) -> None:
        """End the replica of a run that does not stop; whoever shares it is repeated without being charged."""
        attempt, failure = entry.attempt, entry.stop
        if attempt is None or failure is None or not self._goes_on(entry, attempt):
            return
        message = (
            f"{failure.message}; it did not report within {self._grace_s:g} s, so its replica was stopped. {_ADVICE}"
        )
        entry.stop = failure.model_copy(update={"message": message})
        self._killed.add(attempt.replica)
        while self._goes_on(entry, attempt):
            for each in self._live.values():
                if each.attempt is not None and each.attempt.replica == attempt.replica:
                    self.follow(each)  # the call on a replica may be open for long after its end
            try:
                await self._dispatcher.kill(attempt.replica)
            except Exception:  # the cluster may be busy with itself
                told = {**run_fields(entry.run), "replica": attempt.replica}
                logger.exception("the replica %s cannot be ended yet", attempt.replica, extra=told)
            await asyncio.sleep(KILL_RETRY_S)


def status_after(failure: RunFailure) -> RunStatus:
    """How a run ends that was told to stop."""
    return RunStatus.CANCELLED if failure.code == "cancelled" else RunStatus.FAILED
