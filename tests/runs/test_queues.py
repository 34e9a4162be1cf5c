"""Positions in a queue."""

from __future__ import annotations

import random

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.runs.live_run import LiveRun
from t3d_server.runs.queues import Queues, RunQueue
from tests.run_store.examples import a_run
from tests.runs.bench import Versions


def live(device: str = "cpu") -> LiveRun:
    return LiveRun(a_run(resolved_device=device), Versions.manifest, SYSTEM_CLOCK)


def test_positions_are_right_whatever_comes_and_goes() -> None:
    chance = random.Random(3)
    queue, plain, absent = RunQueue(), list[LiveRun](), live()
    for _ in range(800):
        match chance.choice(("put", "put", "first", "take", "remove")):
            case "put":
                queue.put(run := live())
                plain.append(run)
            case "first":
                queue.put_first(run := live())
                plain.insert(0, run)
            case "take":
                assert queue.take() is (plain.pop(0) if plain else None)
            case "remove":
                gone = chance.choice([*plain, absent])
                assert queue.remove(gone) == (gone in plain)
                plain = [each for each in plain if each is not gone]
        assert list(queue) == plain
        assert [queue.position(each) for each in plain] == list(range(len(plain)))
        assert queue.position(absent) is None


def test_runs_are_counted_by_algorithm_and_found_in_their_own_queue() -> None:
    queues, one, other = Queues(), live("cpu"), live("gpu")
    queues.put(one, slots=2)
    queues.put(other, slots=3)
    assert (queues.count(), queues.count("blur"), queues.count("denoise")) == (2, 2, 0)
    assert (queues.slots("blur"), queues.slots(other.queue)) == (5, 3)
    assert queues.position(other) == 0
    assert queues.take(one.queue) is one
    assert not queues.remove(one)
    queues.discard(other.queue)  # it is not empty
    assert queues.waiting(other.queue) == [other]
