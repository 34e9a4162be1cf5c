"""The state is what the log adds up to, wherever one begins to read it; an event at a wrong place changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t3d_server.models import Run, RunStatus
from t3d_server.run_store.events import (
    Accepted,
    Claimed,
    Ended,
    Event,
    Expired,
    Header,
    Joined,
    Left,
    Leftovers,
    Paged,
    PageInfo,
    Swept,
    Updated,
    Withdrawn,
    decode,
    encode,
)
from t3d_server.run_store.records import FencedError, KeyHeldError, NotOwnedError, StaleError
from t3d_server.run_store.state import State
from tests.run_store.examples import a_run, accepted, ended, has_ended, header

ANY_TIME = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
RUN_IDS = [f"01990000-0000-7000-8000-{number:012d}" for number in range(4)]
CLUSTERS, PROCESSES, KEYS, PAGES = ["one", "two", "three"], ["p1", "p2"], ["", "aa" * 32, "bb" * 32], ["x", "y"]

runs = st.builds(
    a_run,
    st.sampled_from(RUN_IDS),
    st.sampled_from(RunStatus),
    created_at=st.just(EPOCH),
    input_dataset_ids=st.lists(st.sampled_from(["d1", "d2"]), max_size=1),
)
ids = st.lists(st.sampled_from(RUN_IDS), max_size=2, unique=True)
names = st.sampled_from(PAGES)
pages = st.builds(
    PageInfo,
    name=names,
    first=st.just(RUN_IDS[0]),
    last=st.sampled_from(RUN_IDS),
    index_bytes=st.just(9),
    counts=st.just({"blur COMPLETED": 1}),
    keys=st.just("AAAAAAAAAAA="),
)
times = st.integers(0, 90).map(lambda days: EPOCH + timedelta(days=days))
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Joined),
    st.builds(Left),
    st.builds(Claimed, cluster=st.sampled_from(CLUSTERS)),
    st.builds(Accepted, run=runs, key=st.sampled_from(KEYS)),
    st.builds(Withdrawn, run_id=st.sampled_from(RUN_IDS)),
    st.builds(Updated, cause=st.just("started"), run=runs, log=st.sampled_from(["", "log"])),
    st.builds(Ended, run=runs, leftovers=st.booleans()),
    st.builds(Leftovers, run=runs),
    st.builds(Swept, run_ids=ids, before=times),
    st.builds(
        Paged,
        page=pages,
        moved=ids,
        replaces=st.sampled_from(["", *PAGES]),
        keys_until=st.one_of(st.none(), times),
    ),
    st.builds(Expired, pages=st.lists(names, max_size=1), run_ids=ids, logs_of=ids),
)
headers = st.builds(
    Header,
    cluster=st.sampled_from(CLUSTERS),
    process=st.sampled_from(PROCESSES),
    batch=st.just("b"),
    time=times,
)
segments = st.tuples(headers, st.lists(events, max_size=3))


def joined(*more: tuple[Header, list[Event]]) -> State:
    state = State()
    begin: list[tuple[Header, list[Event]]] = [(header("one"), [Joined()]), (header("two"), [Joined()])]
    for each, batch in [*begin, *more]:
        state.apply(each, batch)
    return state


def refusals(state: State, event: Event, by: Header) -> list[type[Exception] | None]:
    """Why an event may not be at this place; if so, that nothing but the number changes."""
    before = state.copy()
    results = state.apply(by, [event])
    before.seq += 1
    member = before.members.get(by.cluster)
    if member is not None and member.process == by.process:
        before.members[by.cluster] = member.model_copy(update={"segment": before.seq})
    if results[0] is not None:
        assert state == before
    return [None if result is None else type(result) for result in results]


@ANY_TIME
@given(st.lists(segments, max_size=14), st.integers(0, 13))
def test_a_snapshot_and_the_rest_of_the_log_give_the_state_of_the_whole(
    log: list[tuple[Header, list[Event]]], cut: int
) -> None:
    """For every log and every prefix: also what the next events may do is the same."""
    whole = joined()
    for number, (by, batch) in enumerate(log):
        if number == cut:
            whole_at_cut = State.load(whole.dump())
        results = whole.apply(by, batch)
        if number >= cut:
            again = whole_at_cut.apply(*decode(encode(by, [event.model_dump_json() for event in batch])))
            assert list(map(repr, again)) == list(map(repr, results))
            assert whole_at_cut.dump() == whole.dump()


@ANY_TIME
@given(st.lists(segments, max_size=14))
def test_an_event_that_is_refused_changes_nothing(log: list[tuple[Header, list[Event]]]) -> None:
    state = joined()
    for by, batch in log:
        for event in batch:
            refusals(state, event, by)


@ANY_TIME
@given(st.lists(segments, max_size=14))
def test_a_copy_stays_as_it_is(log: list[tuple[Header, list[Event]]]) -> None:
    state = joined()
    for by, batch in log:
        copy, dumped = state.copy(), state.dump()
        state.apply(by, batch)
        assert copy.dump() == dumped


@ANY_TIME
@given(st.lists(segments, max_size=14))
def test_each_key_stands_for_at_most_one_run_and_each_run_is_in_one_place(
    log: list[tuple[Header, list[Event]]],
) -> None:
    state = joined()
    for by, batch in log:
        state.apply(by, batch)
        held = [stored.key for stored in (*state.open.values(), *state.ended.values()) if stored.key]
        assert len(held) == len(set(held))
        assert state.open.keys().isdisjoint(state.ended)
        for stored in (*state.open.values(), *state.ended.values()):
            assert not stored.key or state.holder(stored.key) == stored


def owned() -> tuple[State, Run]:
    run = a_run()
    return joined((header("one"), [accepted(run, "aa" * 32)])), run


@pytest.mark.parametrize(
    "kind", [accepted, has_ended, lambda run: Withdrawn(run_id=run.id), lambda run: Updated(cause="started", run=run)]
)
@pytest.mark.parametrize("by", [header("one", "other"), header("unknown")])
def test_who_is_no_member_changes_nothing(kind: object, by: Header) -> None:
    state, run = owned()
    assert refusals(state, kind(run), by) == [FencedError]  # type: ignore[operator]


@pytest.mark.parametrize(
    "kind", [has_ended, lambda run: Withdrawn(run_id=run.id), lambda run: Updated(cause="started", run=run)]
)
def test_a_run_of_another_cluster_and_one_that_has_ended_cannot_be_changed(kind: object) -> None:
    state, run = owned()
    assert refusals(state, kind(run), header("two")) == [NotOwnedError]  # type: ignore[operator]
    state.apply(header("one"), [has_ended(run)])
    assert refusals(state, kind(run), header("one")) == [NotOwnedError]  # type: ignore[operator]


def test_a_key_and_an_id_stand_for_the_run_that_came_first() -> None:
    state, run = owned()
    for by in (header("one"), header("two")):
        for event in (accepted(a_run(), "aa" * 32), accepted(run)):
            [result] = state.apply(by, [event])
            assert isinstance(result, KeyHeldError)
            assert result.run_id == run.id


def test_a_run_that_is_withdrawn_never_was_and_its_key_is_free() -> None:
    state, run = owned()
    state.apply(header("one"), [Withdrawn(run_id=run.id)])
    assert state.find(run.id) is None
    assert refusals(state, accepted(a_run(), "aa" * 32), header("two")) == [None]


def test_a_claim_gives_open_runs_to_the_claimer_and_fences_the_other_cluster() -> None:
    state, run = owned()
    assert refusals(state, Claimed(cluster="one"), header("two")) == [None]
    assert state.open[run.id].owner == "two"
    assert refusals(state, has_ended(run), header("one")) == [FencedError]
    assert refusals(state, has_ended(run), header("two")) == [None]
    assert refusals(state, Claimed(cluster="one"), header("two")) == [StaleError]
    assert refusals(state, Claimed(cluster="two"), header("two")) == [StaleError]


def test_a_process_that_joins_replaces_the_earlier_one_of_its_cluster_and_keeps_the_runs() -> None:
    state, run = owned()
    state.apply(header("one", "again"), [Joined()])
    assert refusals(state, has_ended(run), header("one")) == [FencedError]
    assert refusals(state, has_ended(run), header("one", "again")) == [None]


def test_numbers_that_a_fenced_process_may_try_are_kept_for_some_time() -> None:
    state, _ = owned()  # "one" has written segment 3 last
    for _ in range(5):
        state.apply(header("two"), [])
    assert state.removable_to() == 2  # the latest one stays: its answer may have been lost, and it is tried again
    state.apply(header("two"), [Claimed(cluster="one")])
    assert [(fence.first, fence.last) for fence in state.fences] == [(3, 9)]
    assert state.removable_to() == 8
    late = header("two").model_copy(update={"time": header().time + timedelta(days=31)})
    state.apply(late.model_copy(update={"process": "p2"}), [Joined()])
    assert [(fence.first, fence.last) for fence in state.fences] == [(9, 10)]


def page_of(*run_ids: str, name: str = "x") -> PageInfo:
    return PageInfo(name=name, first=min(run_ids), last=max(run_ids), index_bytes=1, counts={}, keys="AAAAAAAAAAA=")


def test_what_is_in_a_page_is_found_until_a_snapshot_has_it() -> None:
    state, run = owned()
    assert refusals(state, Paged(page=page_of(run.id), moved=[run.id]), header("one")) == [StaleError]  # it is open
    state.apply(header("one"), [has_ended(run)])
    assert refusals(state, Paged(page=page_of(run.id), moved=[run.id]), header("two")) == [None]
    assert state.find(run.id) is not None
    assert (state.holder("aa" * 32), State.load(state.dump()).find(run.id)) == (None, None)
    again = Paged(page=page_of(run.id, name="y"), moved=[run.id])
    assert refusals(state, again, header("one")) == [StaleError]


def test_keys_of_pages_go_when_all_of_a_page_have_expired() -> None:
    state, run = owned()
    state.apply(header("one"), [has_ended(run), Paged(page=page_of(run.id), moved=[run.id])])
    assert state.pages["x"].keys
    until = run.created_at + timedelta(seconds=1)
    state.apply(header("one"), [Paged(page=page_of(RUN_IDS[0], name="y"), keys_until=until)])
    assert state.pages["x"].keys == ""


def test_leftovers_are_kept_until_they_are_swept_after_the_latest_of_them() -> None:
    run = a_run()
    early, late = (header().model_copy(update={"time": EPOCH + timedelta(hours=hours)}) for hours in (1, 2))
    state = joined((early, [accepted(run), has_ended(run, leftovers=True)]), (late, [Leftovers(run=ended(run))]))
    state.apply(late, [Swept(run_ids=[run.id], before=EPOCH + timedelta(hours=1, minutes=30))])
    assert list(state.sweeps) == [run.id]
    state.apply(late, [Swept(run_ids=[run.id], before=EPOCH + timedelta(hours=3))])
    assert state.sweeps == {}


def test_what_has_expired_is_forgotten_with_its_key() -> None:
    state, run = owned()
    state.apply(header("one"), [Expired(run_ids=[run.id])])
    assert state.find(run.id) is not None  # it is open
    state.apply(header("one"), [has_ended(run, log="log"), Expired(logs_of=[run.id])])
    assert state.ended[run.id].log == ""
    state.apply(header("one"), [Expired(run_ids=[run.id], pages=["unknown"])])
    assert (state.find(run.id), state.holder("aa" * 32)) == (None, None)
