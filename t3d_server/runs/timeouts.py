"""Runs that are to end in time: deadlines, the grace of those that are to stop, and replicas that end unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from t3d_server.clock import Clock
from t3d_server.models import RunFailure, RunStatus
from t3d_server.run_store.timings import Timings
from t3d_server.runs.interface import AttemptKey, QueueName
from t3d_server.runs.live_run import LiveRun
from t3d_server.runs.replica_calls import Replicas
from t3d_server.runs.tasks import Tasks

logger = logging.getLogger(__name__)

CANCELLED = RunFailure(code="cancelled", type="RunCancelled", message="the run was cancelled")
_ADVICE = "Call set_progress in long loops, so that a run can be stopped at once."


def status_after(reason: RunFailure) -> RunStatus:
    """How a run ends that was to stop."""
    return RunStatus.CANCELLED if reason.code == "cancelled" else RunStatus.FAILED


class Timeouts:
    """Watches the runs that replicas work on.

    Args:
        replicas: knows of replicas, and ends them.
        clock: the clock.
        timings: how long what takes.
        grace_s: time that a run which is to stop has for its next call back; then its replica is ended.
        timed_out: a run is past its deadline, and why it is to stop.
        replica_ended: the replica of a run has ended whose call does not tell.
    """

    def __init__(
        self,
        replicas: Replicas,
        clock: Clock,
        timings: Timings,
        grace_s: float,
        *,
        timed_out: Callable[[LiveRun, RunFailure], None],
        replica_ended: Callable[[LiveRun, str], Awaitable[None]],
    ) -> None:
        self._replicas = replicas
        self._clock = clock
        self._timings = timings
        self._grace_s = grace_s
        self._timed_out = timed_out
        self._replica_ended = replica_ended
        self._timers: dict[LiveRun, asyncio.TimerHandle] = {}
        self._followed: dict[AttemptKey, LiveRun] = {}
        self._following: asyncio.Task[None] | None = None
        self._killed: set[str] = set()
        self._obsolete: dict[AttemptKey, float] = {}
        self._tasks = Tasks()

    def attempt_began(self, run: LiveRun) -> None:
        """An attempt goes on: it has its time limit, from its beginning."""
        if run.stop_reason is None and run.run.timeout_s is not None and run.run.started_at is not None:
            left_s = run.run.timeout_s - (self._clock.now() - run.run.started_at).total_seconds()
            self._later(run, max(0.0, left_s), self._time_out)

    def stopping(self, run: LiveRun) -> None:
        """A run is to stop: soon by force."""
        self._later(run, self._grace_s, lambda run: self._tasks.start(self._kill(run)))

    def attempt_ended(self, run: LiveRun) -> None:
        """An attempt has ended: it has no time limit any more."""
        if (timer := self._timers.pop(run, None)) is not None:
            timer.cancel()

    def obsolete_reported(self, attempt: AttemptKey) -> None:
        """A replica reports an attempt that does not count any more: it has the same time to stop.

        Else one that never stops would keep its replica from other runs.
        """
        now_s = self._clock.seconds()
        began_s = self._obsolete.setdefault(attempt, now_s)
        if now_s - began_s >= self._grace_s:
            self._tasks.start(self._end_replica(attempt.replica))
            # Others that were reported as long ago have stopped; this one is looked at again.
            self._obsolete = {each: since_s for each, since_s in self._obsolete.items() if since_s > began_s}

    def follow(self, run: LiveRun) -> None:
        """Notice by itself if the replica of an attempt ends: there is no open call that would tell."""
        if run.attempt is not None:
            self._followed[run.attempt] = run
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow())

    def follows(self, queue: QueueName) -> bool:
        """Whether an attempt at a run of a queue is followed."""
        return any(run.queue == queue for run in self._followed.values())

    def has_killed(self, replica: str) -> bool:
        """Whether a replica was ended by force: not because of every run that it worked on."""
        return replica in self._killed

    async def _follow(self) -> None:
        while self._followed:
            await asyncio.sleep(self._timings.watch_s)
            for attempt, run in list(self._followed.items()):
                if run.attempt != attempt:
                    del self._followed[attempt]
                elif await self._is_gone(attempt.replica):
                    self._followed.pop(attempt, None)
                    await self._replica_ended(run, attempt.replica)

    async def _is_gone(self, replica: str) -> bool:
        try:
            return await self._replicas.is_gone(replica)
        except Exception:  # the cluster may be busy with itself; it is asked again
            logger.exception("the cluster does not tell of the replica %s", replica)
            return False

    def _later(self, run: LiveRun, after_s: float, call: Callable[[LiveRun], object]) -> None:
        self.attempt_ended(run)
        self._timers[run] = asyncio.get_running_loop().call_later(after_s, call, run)

    def _time_out(self, run: LiveRun) -> None:
        message = f"the run took longer than its limit of {run.run.timeout_s:g} s"
        self._timed_out(run, RunFailure(code="timeout", type="TimeoutError", message=message))

    async def _kill(self, run: LiveRun) -> None:
        """End the replica of a run that does not stop; whoever shares it is repeated without being charged."""
        attempt, reason = run.attempt, run.stop_reason
        if attempt is None or reason is None:
            return
        message = (
            f"{reason.message}; it did not report within {self._grace_s:g} s, so its replica was stopped. {_ADVICE}"
        )
        run.stop_reason = reason.model_copy(update={"message": message})
        while run.attempt == attempt:
            self.follow(run)  # the call on a replica may be open for long after its end
            await self._end_replica(attempt.replica)
            await asyncio.sleep(self._timings.kill_retry_s)

    async def _end_replica(self, replica: str) -> None:
        """End a replica by force."""
        self._killed.add(replica)
        try:
            await self._replicas.kill(replica)
        except Exception:  # the cluster may be busy with itself
            logger.exception("the replica %s cannot be ended yet", replica, extra={"replica": replica})
