"""One live run: what may happen to it in which state, and what becomes of its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from t3d_server.models import RunFailure, RunStatus
from t3d_server.runs.live_run import TRANSITIONS, InvalidTransitionError, LiveRun, RunEvent, RunState
from tests.run_store.examples import a_run
from tests.runs.bench import Clock, Versions, in_loop, line_of, lines_of

S, E = RunState, RunEvent
WHY = RunFailure(code="cancelled", type="RunCancelled", message="the run was cancelled")
CHANGES: dict[RunEvent, Callable[[LiveRun], object]] = {
    E.BEGIN: lambda run: run.begin(run.run.attempts + 1, "r1"),
    E.STOP: lambda run: run.stop(WHY),
    E.LOSE: lambda run: run.lose("its replica has ended", charged=True),
    E.POSTPONE: lambda run: run.postpone("no store"),
    E.REQUEUE: lambda run: run.requeue(),
    E.END: lambda run: run.end(RunStatus.CANCELLED, attempt="cancelled", error=WHY),
    E.RECORD: lambda run: run.record(run.run.model_copy(update={"status": RunStatus.CANCELLED})),
    E.DISOWN: lambda run: run.disown(),
}
WAYS: dict[RunState, list[RunEvent]] = {
    S.QUEUED: [],
    S.RUNNING: [E.BEGIN],
    S.STOPPING: [E.BEGIN, E.STOP],
    S.REQUEUED: [E.BEGIN, E.POSTPONE],
    S.ENDING: [E.BEGIN, E.END],
    S.ENDED: [E.BEGIN, E.END, E.RECORD],
    S.DISOWNED: [E.DISOWN],
}
"""How each state is reached."""


def live(state: RunState = S.QUEUED, *, recovered: bool = False) -> LiveRun:
    run = LiveRun(a_run(), Versions.manifest, Clock(), recovered=recovered)
    for event in WAYS[state]:
        CHANGES[event](run)
    assert run.state is state
    return run


@pytest.mark.parametrize("event", RunEvent, ids=lambda event: event.name)
@pytest.mark.parametrize("state", RunState)
@in_loop
async def test_every_method_enters_the_state_of_the_table_and_no_other(state: RunState, event: RunEvent) -> None:
    run = live(state)
    before, transition = run.run, TRANSITIONS.get((state, event))
    if transition is None:
        with pytest.raises(InvalidTransitionError, match=f"is {state}"):
            CHANGES[event](run)
        assert (run.state, run.run) == (state, before)
    else:
        CHANGES[event](run)
        assert run.state is transition.to


def test_every_state_is_reached_and_left_but_for_the_last_ones() -> None:
    assert {transition.to for transition in TRANSITIONS.values()} == set(RunState)
    assert {state for state, _ in TRANSITIONS} == set(RunState) - {S.ENDED, S.DISOWNED}


@pytest.mark.parametrize("state", RunState)
@in_loop
async def test_the_status_follows_from_the_state(state: RunState) -> None:
    expected = {
        S.QUEUED: RunStatus.PENDING,
        S.REQUEUED: RunStatus.PENDING,
        S.ENDED: RunStatus.CANCELLED,
        S.DISOWNED: RunStatus.PENDING,
    }
    run = live(state)
    assert run.run.status is expected.get(state, RunStatus.RUNNING)
    assert (run.attempt is not None) == (state in (S.RUNNING, S.STOPPING))
    assert run.goes_on == (state not in (S.ENDING, S.ENDED, S.DISOWNED))


@in_loop
async def test_the_first_reason_to_stop_counts() -> None:
    run = live(S.STOPPING)
    run.stop(RunFailure(code="timeout", type="TimeoutError", message="too long"))
    assert run.stop_reason == WHY


@in_loop
async def test_an_outcome_is_not_seen_before_it_is_on_record() -> None:
    run = live(S.RUNNING)
    ended = run.end(RunStatus.COMPLETED, attempt="completed", output_dataset_ids=["x"])
    assert (run.run.status, run.run.output_dataset_ids) == (RunStatus.RUNNING, [])
    run.record(ended)
    assert (run.run.status, run.run.progress, run.run.output_dataset_ids) == (RunStatus.COMPLETED, 1.0, ["x"])
    assert run.run.attempt_history[-1].outcome == "completed"


@pytest.mark.parametrize("event", [E.BEGIN, E.END, E.DISOWN], ids=lambda event: event.name)
@in_loop
async def test_who_waits_for_a_change_is_woken(event: RunEvent) -> None:
    run = live()
    waiting = asyncio.create_task(run.changed.wait())
    await asyncio.sleep(0)
    CHANGES[event](run)
    await waiting


@in_loop
async def test_a_run_whose_attempt_was_lost_begins_from_nothing() -> None:
    run = live(S.RUNNING)
    run.hear(0.5, lines_of("half way"))
    run.lose("its replica has ended", charged=False)
    assert (run.run.status, run.run.progress, run.run.started_at) == (RunStatus.PENDING, 0.0, None)
    [attempt] = run.run.attempt_history
    assert (attempt.outcome, attempt.charged, attempt.reason) == ("lost", False, "its replica has ended")
    run.begin(2, "r2")
    assert run.hear(None, lines_of("of the second attempt")) is None
    assert [line.message for line in run.log] == [
        "half way",
        "the run is retried as attempt 2",
        "of the second attempt",
    ]


@in_loop
async def test_lines_that_come_again_are_left_out_and_missing_ones_are_asked_for() -> None:
    run = live(S.RUNNING)
    assert run.hear(None, lines_of("0", "1")) is None
    assert run.hear(None, lines_of("0", "1", "2")) is None
    assert run.hear(None, lines_of("4", first=4)) == 3
    assert run.hear(None, lines_of("9", first=9, complete=True)) is None  # the ones before are not kept any more
    assert run.heard == 10
    assert [line.message for line in run.log] == ["0", "1", "2", "9"]


@in_loop
async def test_a_log_that_was_stored_goes_on_where_it_was() -> None:
    run = LiveRun(a_run(status=RunStatus.RUNNING), Versions.manifest, Clock(), recovered=True)
    run.restore_log([line_of("0"), line_of("1")], heard=2)
    assert run.leftovers
    assert run.hear(None, lines_of("2", first=2)) is None
    assert [line.message for line in run.log] == ["0", "1", "2", "the server was started again"]
