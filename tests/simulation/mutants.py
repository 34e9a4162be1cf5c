"""Faults that are put into the product, to see that the simulation finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from unittest import mock

from t3d_server.errors import ObjectExistsError
from t3d_server.run_store import event_log
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import Append, EventLog
from t3d_server.run_store.events import Header, Joined
from t3d_server.run_store.records import FencedError, NotOwnedError
from t3d_server.run_store.segments import seq_of
from t3d_server.run_store.state import State
from t3d_server.runs.live_run import LiveRun
from t3d_server.runs.queues import RunQueue
from t3d_server.runs.replica_calls import ReplicaCalls
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import RUN_EVENTS, RUN_SNAPSHOTS, segment_key


def _no_if_absent(store: ObjectStore, seq: int, batch: str, segment: bytes) -> bool:
    store.put(segment_key(seq), segment)
    return True


def _nonce_ignored(store: ObjectStore, seq: int, batch: str, segment: bytes) -> bool:
    with suppress(ObjectExistsError):
        store.put(segment_key(seq), segment, if_absent=True)
    return True


@contextmanager
def _answered_before_stored() -> Iterator[None]:
    original = EventLog._next_batch

    def next_batch(self: EventLog) -> list[Append]:
        batch = original(self)
        for append in batch:
            if not append.done.done() and not isinstance(append.event, Joined):
                append.done.set_result(None)
        return batch

    with mock.patch.object(EventLog, "_next_batch", next_batch):
        yield


@contextmanager
def _claim_ignored() -> Iterator[None]:
    original = EventLog._take_in

    def take_in(self: EventLog, header: Header, segment: bytes, batch: list[Append]) -> None:
        for append in batch:
            append.done.add_done_callback(lambda _: None)
        apply = self.state.apply

        def lenient(header: Header, events: Any) -> list[Exception | None]:
            results = apply(header, events)
            own = header.process == self.process
            return [None if own and isinstance(each, FencedError | NotOwnedError) else each for each in results]

        with mock.patch.object(self.state, "apply", lenient):
            original(self, header, segment, batch)

    with (
        mock.patch.object(EventLog, "_take_in", take_in),
        mock.patch.object(EventLog, "_require_place"),
    ):
        yield


def _queue_reversed(self: RunQueue) -> LiveRun | None:
    if not self._numbers:
        return None
    run, _ = self._numbers.popitem(last=True)
    self._forget_left()
    return run


@contextmanager
def _last_segment_not_replayed() -> Iterator[None]:
    original = EventLog._load

    async def load(self: EventLog) -> None:
        before: list[State] = []
        take_in = self._take_in

        def remember(header: Header, segment: bytes, batch: list[Append]) -> None:
            before.append(self.state.copy())
            take_in(header, segment, batch)

        with mock.patch.object(self, "_take_in", remember):
            await original(self)
        if before:
            seq = self.state.seq
            self.state = before[-1]
            self.state.seq = seq

    with mock.patch.object(EventLog, "_load", load):
        yield


def _granted_twice(self: ReplicaCalls, call_id: str, replica: str) -> LiveRun | None:
    call = self._calls.get(call_id)
    if call is None:
        return None
    if call.is_fresh:
        call.replica = replica
        self._take(call)
        call.until_s = 0.0
    return call.run


def _fences_ignored(self: Compactor, state: State) -> None:
    segments = [stat.key for stat in self._store.list(RUN_EVENTS)]
    doomed = [key for key in segments if seq_of(key) <= state.seq]
    doomed += [stat.key for stat in self._store.list(RUN_SNAPSHOTS) if seq_of(stat.key) < state.seq]
    self._store.delete(*doomed)


def _patched(owner: Any, name: str, replacement: Callable[..., Any]) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def patch() -> Iterator[None]:
        with mock.patch.object(owner, name, replacement):
            yield

    return patch


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "no_if_absent": _patched(event_log, "put_segment", _no_if_absent),
    "nonce_ignored": _patched(event_log, "put_segment", _nonce_ignored),
    "answered_before_stored": _answered_before_stored,
    "claim_ignored": _claim_ignored,
    "queue_reversed": _patched(RunQueue, "take", _queue_reversed),
    "last_segment_not_replayed": _last_segment_not_replayed,
    "granted_twice": _patched(ReplicaCalls, "begin", _granted_twice),
    "fences_ignored": _patched(Compactor, "_remove_before", _fences_ignored),
}
"""By name; each changes the product while its context lasts."""
