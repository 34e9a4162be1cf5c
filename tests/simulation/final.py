"""What has to hold at the end, when all faults are over and everything has come to rest."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from t3d_server.errors import T3dError
from t3d_server.ids import tag_for, tag_of
from t3d_server.models import LogLine, Run, RunStatus
from t3d_server.run_store.events import decode
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.segments import seq_of
from t3d_server.run_store.state import State
from t3d_server.runs.interface import AttemptKey
from t3d_server.storage.keys import (
    DATASET_SUFFIX,
    DATASETS,
    RUN_EVENTS,
    RUN_LOGS,
    RUN_PAGES,
    RUN_SNAPSHOTS,
    dataset_key,
    run_log_key,
)
from tests.simulation.faults import STORE_FAULTS
from tests.simulation.submitted import Submitted, outcome_of

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

LOSSES = (
    "replica_crashes",
    "coordinator_crashes",
    "node_losses",
    "cluster_kills",
    "cluster_stops",
    "sent_twice",
    "load_fails",
    "machine_pauses",
    "suspends",
    "coordinator_pauses",
    "unreachable",
    "answer_lost",
    *STORE_FAULTS,
)
"""Faults by which a replica, or the call that it works on, may be lost."""


class Final:
    """Checks the end.

    Args:
        world: the simulation.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._record = world.record
        self._objects = world.bucket.objects
        self._violation = world.findings.violation

    def is_settled(self) -> bool:
        """Whether all runs have ended, and what attempts have left is removed."""
        runs = self._world.observed.runs
        return all(run_id in self._record.ended for run_id in runs) and not (
            self._record.state.open or self._record.state.sweeps
        )

    def check(self) -> None:
        """Check all but what needs a cluster's answer."""
        for run in self._world.observed.runs.values():
            if run.id not in self._record.ended:
                where = "it is open" if run.id in self._record.state.open else "it is not on record"
                text = f"{run.id} ({run.algorithm}) of {run.cluster.name} accepted at {run.accepted_s:.3f}: {where}"
                self._violation("never-ends", text)
            else:
                self._check_outcome(run, self._record.ended[run.id].run)
        for run_id in self._record.state.open:
            if run_id not in self._world.observed.runs:
                self._violation("open-stays", f"{run_id}, which no client knows")
        self._check_log()
        if self._world.plan.expires:
            left = [key for key in self._objects if key.startswith((RUN_PAGES, RUN_LOGS))]
            left += [*self._record.state.ended, *self._record.state.pages]
            if left:
                self._violation("expired-stays", f"{len(left)} objects and runs, as {left[0]}")
            return
        self._check_datasets()
        for stored in self._record.ended.values():
            self._check_lines(stored)

    async def check_answers(self, cluster: Cluster) -> None:
        """Check that a cluster answers what is on record."""
        service = cluster.router.service
        try:
            if self._world.plan.expires:
                return
            for run_id, stored in self._record.ended.items():
                run = await service.run(run_id)
                if outcome_of(run) != outcome_of(stored.run):
                    self._violation("answer-differs", f"{run_id} at {cluster.name}: {run.status}")
                if [line.message for line in await service.log(run_id)] != [
                    each.message for each in self._lines(stored)
                ]:
                    self._violation("log-differs", f"{run_id} at {cluster.name}")
            for status in (None, RunStatus.COMPLETED, RunStatus.CANCELLED):
                listed, cursor = list[str](), None
                while True:
                    page = await service.list_runs(limit=5, cursor=cursor, status=status)
                    listed += [run.id for run in page.runs]
                    cursor = page.next_cursor
                    if cursor is None:
                        break
                ended = self._record.ended.items()
                expected = sorted((each for each, run in ended if status in (None, run.run.status)), reverse=True)
                if listed != expected:
                    differing = set(listed) ^ set(expected)
                    self._violation("list-differs", f"{status} at {cluster.name}: {sorted(differing)}")
        except T3dError as error:
            self._violation("no-answer", f"{cluster.name}: {error!r}")

    def _check_outcome(self, known: Submitted, run: Run) -> None:
        if known.outcome is not None and known.outcome != outcome_of(run):
            self._violation("outcome-changed", f"{run.id}: {known.outcome} as answered, on record {outcome_of(run)}")
        world, code = self._world, run.error.code if run.error else ""
        drawn = world.drawn
        if run.status is RunStatus.CANCELLED and known.cancel_sent_s < 0 and known.algorithm != "doomed":
            self._violation("cancelled-unasked", run.id)
        if run.status is RunStatus.FAILED:
            allowed = {"attempts_exhausted", "timeout"}
            if known.spec["raises"]:
                allowed.add("algorithm_error")
            if known.algorithm == "broken" or drawn.load_fails:
                allowed.add("load_failed")
            if known.algorithm == "doomed" and len(world.clusters) > 1:  # another one has removed the version
                allowed |= {"algorithm_not_found", "version_not_found", "load_failed"}
            if drawn.any_of(*STORE_FAULTS):
                allowed.add("store_unavailable")
            if code not in allowed:
                message = run.error.message if run.error else ""
                self._violation("odd-failure", f"{run.id} ({known.algorithm}): {code}: {message}")
            if code == "attempts_exhausted" and not (known.spec["dies"] or drawn.any_of(*LOSSES)):
                self._violation("odd-failure", f"{run.id}: {code}, and no replica died")
        if run.status is RunStatus.COMPLETED:
            if not run.attempt_history or run.attempt_history[-1].outcome != "completed":
                self._violation("odd-completion", f"{run.id}: {run.attempt_history}")
            expected = min(known.spec["keeps"], known.spec["posts"] + known.spec["early"])
            if len(run.output_dataset_ids) != expected:
                self._violation("odd-outputs", f"{run.id}: {len(run.output_dataset_ids)} instead of {expected}")

    def _check_log(self) -> None:
        """The newest snapshot and the segments after it give the fold of all segments."""
        snapshots = [key for key in sorted(self._objects) if key.startswith(RUN_SNAPSHOTS)]
        state = State.load(self._objects[snapshots[-1]]) if snapshots else State()
        for key in sorted(self._objects):
            if key.startswith(RUN_EVENTS) and seq_of(key) > state.seq:
                if seq_of(key) != state.seq + 1:
                    self._violation("segment-missing", f"{key} comes after {state.seq}")
                    return
                state.apply(*decode(self._objects[key]))
        if state.dump() != self._record.state.dump():
            self._violation("replay-differs", f"{state.seq} and {self._record.state.seq}")

    def _check_datasets(self) -> None:
        tags = {tag_for(run_id): run_id for run_id in self._record.accepted}
        for key in self._objects:
            if key.startswith(DATASETS):
                dataset_id = key.removeprefix(DATASETS).removesuffix(DATASET_SUFFIX)
                run_id = tags.get(tag_of(dataset_id), "")
                stored = self._record.ended.get(run_id)
                if stored is not None and dataset_id not in stored.run.output_dataset_ids:
                    self._violation("orphan", f"dataset {dataset_id} of {run_id} ({stored.run.status}) stays")
        for stored in self._record.ended.values():
            for output in stored.run.output_dataset_ids:
                if dataset_key(output) not in self._objects:
                    self._violation("output-missing", f"{stored.run.id}: {output} at the end")

    def _check_lines(self, stored: StoredRun) -> None:
        """The log has each line of the attempt that counts, once and in order, as followers have seen them."""
        run = stored.run
        if stored.log and run_log_key(stored.log) not in self._objects:
            self._violation("log-missing", f"{run.id}: {stored.log}")
            return
        lines = self._lines(stored)
        times = [line.time for line in lines]
        if times != sorted(set(times)):
            self._violation("log-times", run.id)
        messages = [line.message for line in lines if line.message.startswith("line ")]
        if twice := [message for message, count in Counter(messages).items() if count > 1]:
            self._violation("log-twice", f"{run.id}: {twice[:3]}")
        attempt = run.attempt_history[-1] if run.attempt_history else None
        if attempt is not None and attempt.outcome == "completed":
            logged = self._world.grants.lines[AttemptKey(run.id, attempt.number, attempt.replica)]
            kept = [message for message in messages if message in set(logged)]
            if kept != logged:
                missing = [message for message in logged if message not in set(kept)]
                self._violation("log-lacks", f"{run.id}: {len(kept)} of {len(logged)} lines, missing {missing[:3]}")
        known = self._world.observed.runs.get(run.id)
        if known is not None and known.was_followed:
            seen = {message for _, message in known.events}
            for message in messages:
                if message not in seen and run.id in self._record.adopted:
                    self._world.findings.count("a follower of a cluster that was away has missed a line")
                elif message not in seen:
                    self._violation("line-missed", f"{run.id}: a follower has not seen {message!r}")
            for line in lines:
                if line.message not in seen and not line.message.startswith("line "):
                    self._world.findings.count("a follower has not seen a line of the server's")

    def _lines(self, stored: StoredRun) -> list[LogLine]:
        if not stored.log:
            return stored.lines
        _, *lines = self._objects[run_log_key(stored.log)].splitlines()
        return [LogLine.model_validate(json.loads(line)) for line in lines]
