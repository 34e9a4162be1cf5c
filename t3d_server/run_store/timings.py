"""How long what takes in the coordination of runs: one value for all of it, which tests make short."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Durations in seconds, and sizes that decide when something is due.

    Attributes:
        store_retry_s: until a call of the store that failed is repeated.
        heartbeat_s: an idle cluster writes a heartbeat this often.
        dead_s: a cluster that has written nothing for so long is taken over.
        confirmed_s: a cluster relies on its place for so long after it has seen the end of the log; less than `dead_s`.
        announce_s: after a restart nothing begins for so long: replicas report at least every second, and so make known
            the attempts that no event tells of.
        started_after_s: an attempt is on record once it has lasted so long; most have ended by then.
        log_after_s: the log of a run is stored so long after a new line; a crash of all processes takes what is newer.
        watch_s: how often the end of replicas is looked for, of which no call tells.
        kill_retry_s: until a replica that was to be stopped by force is looked at again.
        call_retry_s: until replicas are called again that did not answer.
        call_watch_s: how often it is looked whether replicas of a call that none has answered can start.
        give_up_s: what waits for replicas fails when for so long each has ended while it loaded.
        call_s: a replica takes one run after the other for so long; one that is to be shut down is free after that.
        cancel_s: a request to cancel waits so long until that is on record.
        position_s: how often followers learn of another place in the queue.
        snapshot_segments: a snapshot is due after so many segments.
        snapshot_bytes: or after so many bytes of them.
        page_runs: a page is due when so many ended runs are in none.
        page_after_s: a run is put into a page when it has ended so long ago.
        sweep_after_s: datasets of attempts that do not count are removed so long after they may have been stored, and
            again until no process is there that could add any.
        sweep_look_s: how often it is looked for such datasets.
        expiry_s: how often it is looked for what has expired; `expiry_pause_s` while there is more.
        expiry_pause_s: see there.
        listing_s: how often folders are listed whole whose keys carry no time.
        keys_s: how long an idempotency key stands for its run.
    """

    store_retry_s: float = 1.0
    heartbeat_s: float = 3.0
    dead_s: float = 15.0
    confirmed_s: float = 10.0
    announce_s: float = 2.0
    started_after_s: float = 0.2
    log_after_s: float = 3.0
    watch_s: float = 1.0
    kill_retry_s: float = 5.0
    call_retry_s: float = 1.0
    call_watch_s: float = 5.0
    give_up_s: float = 60.0
    call_s: float = 10.0
    cancel_s: float = 5.0
    position_s: float = 2.0
    snapshot_segments: int = 500
    snapshot_bytes: int = 16 * 1024**2
    page_runs: int = 1000
    page_after_s: float = 30.0
    sweep_after_s: float = 30.0
    sweep_look_s: float = 5.0
    expiry_s: float = 60.0
    expiry_pause_s: float = 1.0
    listing_s: float = 3600.0
    keys_s: float = 48 * 3600.0
