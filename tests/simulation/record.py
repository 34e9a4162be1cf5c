"""What is on record: folds the segments as they are stored, and watches what else is put and removed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from t3d_server.models import Run, RunStatus
from t3d_server.run_store.events import (
    Accepted,
    Claimed,
    Ended,
    Event,
    Header,
    Joined,
    Left,
    Updated,
    Withdrawn,
    decode,
)
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.segments import seq_of
from t3d_server.run_store.state import State
from t3d_server.runs.live_run import charged_attempts
from t3d_server.runs.scheduler import MAX_ATTEMPTS
from t3d_server.storage.keys import (
    DATASET_SUFFIX,
    DATASETS,
    RUN_EVENTS,
    RUN_LOGS,
    RUN_PAGES,
    RUN_SNAPSHOTS,
    dataset_key,
)
from tests.simulation.bucket import Bucket
from tests.simulation.loop import SimLoop
from tests.simulation.store import LATE
from tests.simulation.violations import Findings


@dataclass(frozen=True)
class AcceptedRun:
    """A run that was accepted.

    Attributes:
        run: as it was accepted.
        cluster: by whom.
        key: hash of its idempotency key.
        at_s: when that was on record.
    """

    run: Run
    cluster: str
    key: str
    at_s: float


class Record:
    """See above.

    Args:
        loop: tells the time.
        bucket: what is watched.
        findings: gets violations.
        expires: whether anything expires.

    Attributes:
        state: the fold of all segments.
        accepted: the runs that were ever accepted.
        withdrawn: those of them that were withdrawn.
        ended: the runs that have ever ended, as they were put on record.
        ended_at_s: when that was.
        cancelled_at_s: when it was on record that a run was to be cancelled, or has ended.
        adopted: the runs of clusters that have taken over others.
        strays: segments under numbers that were removed: of processes that have joined and have not seen it yet, and of
            puts that were applied late.
    """

    def __init__(self, loop: SimLoop, bucket: Bucket, findings: Findings, *, expires: bool) -> None:
        self.state = State()
        self.accepted: dict[str, AcceptedRun] = {}
        self.withdrawn: set[str] = set()
        self.ended: dict[str, StoredRun] = {}
        self.ended_at_s: dict[str, float] = {}
        self.cancelled_at_s: dict[str, float] = {}
        self.adopted: set[str] = set()
        self.strays: set[str] = set()
        self._loop = loop
        self._bucket = bucket
        self._findings = findings
        self._expires = expires
        self._keys: dict[str, str] = {}
        self._output_of: dict[str, str] = {}
        self._processes: set[str] = set()
        self._disturbed: dict[str, list[float]] = defaultdict(list)
        bucket.watchers.append(self)

    # What happens to clusters

    def coordinator_started(self, site: str) -> None:
        """A coordinator starts."""
        self._disturbed[site].append(self._loop.now_s)

    def paused(self, site: str, for_s: float) -> None:
        """A cluster stands still for some time."""
        self._disturbed[site] += [self._loop.now_s, self._loop.now_s + for_s]

    def is_disturbed(self, site: str, since_s: float) -> bool:
        """Whether a cluster has changed its coordinator, or was away, since some time."""
        return any(at_s >= since_s for at_s in self._disturbed[site])

    # What is stored and removed

    def on_put(self, key: str, content: bytes, before: bytes | None, by: str) -> None:
        """See `Watcher.on_put`."""
        if key.startswith(RUN_EVENTS):
            self._on_segment(key, content, before, by)
        elif before is not None and before != content and key.startswith((RUN_SNAPSHOTS, RUN_PAGES, DATASETS)):
            self._findings.violation("replaced", f"{key} is replaced by {by}")

    def on_delete(self, key: str, content: bytes, by: str) -> None:
        """See `Watcher.on_delete`."""
        if key.startswith(RUN_EVENTS):
            snapshots = [seq_of(stat.key) for stat in self._bucket.list(RUN_SNAPSHOTS)]
            if key in self.strays:
                self.strays.discard(key)
            elif not snapshots or seq_of(key) > snapshots[-1]:
                self._findings.violation("segment-lost", f"{key} is removed by {by}, and no snapshot has it")
        elif key.startswith(RUN_SNAPSHOTS):
            if not any(stat.key > key for stat in self._bucket.list(RUN_SNAPSHOTS)):
                self._findings.violation("snapshot-lost", f"{key} is removed by {by}, and there is no newer one")
        elif key.startswith(RUN_PAGES):
            if key.removeprefix(RUN_PAGES).removesuffix(".jsonl") in self.state.pages:
                self._findings.violation("page-lost", f"{key} is removed by {by}")
        elif key.startswith(RUN_LOGS):
            name = key.removeprefix(RUN_LOGS).removesuffix(".jsonl")
            stored = self.state.find(name[:36])
            if stored is not None and stored.log == name and not (self._expires and stored.run.status.ended):
                self._findings.violation("log-lost", f"{key} of {stored.run.status} is removed by {by}")
        elif key.startswith(DATASETS):
            self._on_dataset_removed(key.removeprefix(DATASETS).removesuffix(DATASET_SUFFIX), by)

    def _on_dataset_removed(self, dataset_id: str, by: str) -> None:
        for stored in self.state.open.values():
            if dataset_id in stored.run.input_dataset_ids:
                text = f"{dataset_id[-12:]} of {stored.run.id} ({stored.run.status}) is removed by {by}"
                self._findings.violation("input-removed", text)
        if dataset_id in self._output_of and not self._expires:
            text = f"{dataset_id} of {self._output_of[dataset_id]} is removed by {by}"
            self._findings.violation("output-removed", text)

    def _on_segment(self, key: str, content: bytes, before: bytes | None, by: str) -> None:
        header, events = decode(content)
        seq = seq_of(key)
        if seq != self.state.seq + 1:
            if before is None and events and isinstance(events[0], Joined) and header.process not in self._processes:
                self.strays.add(key)
                return
            snapshots = self._bucket.list(RUN_SNAPSHOTS)
            if by.endswith(LATE) and snapshots and seq <= seq_of(snapshots[-1].key):
                self.strays.add(key)  # nobody gets an answer, and nobody reads it
                return
            kind = "segment-rewritten" if seq <= self.state.seq else "segment-gap"
            self._findings.violation(kind, f"{key} by {by}; the latest one is {self.state.seq}")
            return
        results = self.state.apply(header, events)
        self._processes.add(header.process)
        for event, result in zip(events, results, strict=True):
            name = event.kind if result is None else f"{event.kind} ({type(result).__name__})"
            self._findings.trace("event", f"{seq} {by}: {name} {_about(event)}")
            if result is None:
                self._on_event(header, event, by)

    def _on_event(self, header: Header, event: Event, by: str) -> None:
        now_s = self._loop.now_s
        match event:
            case Joined() | Left():
                self._disturbed[header.cluster].append(now_s)
            case Claimed():
                self._disturbed[event.cluster].append(now_s)
                self.adopted |= {each for each, run in self.state.open.items() if run.owner == header.cluster}
            case Accepted():
                run_id = event.run.id
                if run_id in self.accepted:
                    self._findings.violation("accepted-twice", f"{run_id} by {by}")
                if event.key and self._keys.setdefault(event.key, run_id) != run_id and not self._expires:
                    self._findings.violation("key-twice", f"{self._keys[event.key]} and {run_id} by {by}")
                self.accepted[run_id] = AcceptedRun(event.run, header.cluster, event.key, now_s)
            case Withdrawn():
                self.withdrawn.add(event.run_id)
                self._keys.pop(self.accepted[event.run_id].key, None)
            case Updated():
                self._check_run(event.run, by)
                if event.run.cancel_requested:
                    self.cancelled_at_s.setdefault(event.run.id, now_s)
            case Ended():
                self._on_ended(event, by)

    def _on_ended(self, event: Ended, by: str) -> None:
        run = event.run
        self._check_run(run, by)
        if run.id in self.ended:
            self._findings.violation("ended-twice", f"{run.id} by {by}")
        self.ended[run.id] = self.state.ended[run.id]
        self.ended_at_s[run.id] = self._loop.now_s
        self.cancelled_at_s.setdefault(run.id, self._loop.now_s)
        if not run.status.ended:
            self._findings.violation("ended-live", f"{run.id} has ended as {run.status}")
        if run.status is not RunStatus.COMPLETED and run.output_dataset_ids:
            self._findings.violation("outputs-of-failed", f"{run.id} is {run.status} and has outputs")
        for output in run.output_dataset_ids:
            self._output_of[output] = run.id
            if dataset_key(output) not in self._bucket.objects and not self._expires:
                self._findings.violation("output-missing", f"{run.id} has ended without its output {output}")

    def _check_run(self, run: Run, by: str) -> None:
        history = run.attempt_history
        numbers = [attempt.number for attempt in history]
        if numbers != sorted(set(numbers)):
            self._findings.violation("attempt-numbers", f"{run.id}: {numbers} ({by})")
        if charged_attempts(run) > MAX_ATTEMPTS:
            self._findings.violation("attempts", f"{run.id}: {charged_attempts(run)} charged attempts ({by})")
        if any(attempt.outcome is None for attempt in history[:-1]):
            self._findings.violation("attempt-open", f"{run.id}: an earlier attempt has no end ({by})")
        is_open = bool(history) and history[-1].outcome is None
        if is_open is not (run.status is RunStatus.RUNNING):
            self._findings.violation("attempt-fits-not", f"{run.id} is {run.status} ({by})")


def _about(event: Event) -> str:
    match event:
        case Accepted() | Ended() | Updated():
            cause = event.cause if isinstance(event, Updated) else ""
            return f"{event.run.id[-6:]} {event.run.status} attempt {event.run.attempts} {cause}"
        case Withdrawn():
            return event.run_id[-6:]
        case Claimed():
            return event.cluster
    return ""
