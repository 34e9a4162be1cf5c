"""What is on record of the runs in a store, as a process that starts now would find it."""

from __future__ import annotations

from t3d_server.errors import ObjectNotFoundError
from t3d_server.run_store.events import decode
from t3d_server.run_store.segments import newest_snapshot
from t3d_server.run_store.state import State
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS, segment_key


def recorded(store: ObjectStore) -> State:
    """The state that snapshot and segments add up to; without what is in pages."""
    while True:
        newest = newest_snapshot(store)
        state = State() if newest is None else State.load(newest[1])
        try:
            for stat in store.list(RUN_EVENTS, start_after=segment_key(state.seq)):
                state.apply(*decode(read(store, stat.key)))
        except ObjectNotFoundError:  # a newer snapshot has come, and this segment has gone
            continue
        return state
