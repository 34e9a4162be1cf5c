"""Pages of ended runs: what a look at them costs, and that none is missing in a listing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t3d_server.errors import ObjectNotFoundError
from t3d_server.models import RunStatus
from t3d_server.run_store import pages
from t3d_server.run_store.events import PageInfo
from t3d_server.run_store.key_index import KeyIndex
from t3d_server.run_store.pages import PageReader, write_page
from t3d_server.run_store.records import StoredRun
from t3d_server.storage.keys import page_key
from t3d_server.storage.memory import MemoryObjectStore
from tests.run_store.examples import a_run, an_id, stored
from tests.run_store.stores import CountingStore

ANY_TIME = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
READS = ("get", "runs/pages/")


def runs_of(count: int, algorithm: str = "blur", begin: int = 0, **fields: str) -> list[StoredRun]:
    """Ended runs of one second after the other."""
    return [
        stored(
            a_run(an_id(BEGIN + timedelta(seconds=second)), RunStatus.COMPLETED, algorithm=algorithm),
            **{name: value.format(second) for name, value in fields.items()},
        )
        for second in range(begin, begin + count)
    ]


def test_a_run_is_found_by_one_read_of_an_index_and_one_of_a_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is kept, so the next one of that page costs its range."""
    monkeypatch.setattr(pages, "HEAD_BYTES", 0)
    store = CountingStore()
    runs = runs_of(100)
    info = write_page(store, runs)
    other = write_page(store, runs_of(100, begin=200))
    reader = PageReader(store)
    store.requests.clear()
    assert reader.find([other, info], runs[40].run.id) == runs[40]
    assert store.requests == {READS: 2}
    assert reader.find([other, info], runs[41].run.id) == runs[41]
    assert store.requests == {READS: 3}
    assert reader.find([other, info], an_id(BEGIN + timedelta(hours=1))) is None
    assert store.requests == {READS: 3}


def test_a_few_indexes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "INDEXES_KEPT", 1)
    reader = PageReader(store := CountingStore())
    both = [write_page(store, runs_of(3)), write_page(store, runs_of(3, begin=10))]
    for _ in range(2):
        for info in both:
            reader.index(info)
    assert store.requests[READS] == 4


def test_runs_that_lie_close_together_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "HEAD_BYTES", 0)
    reader = PageReader(store := CountingStore())
    runs = runs_of(100)
    info = write_page(store, runs)
    index = reader.index(info)
    store.requests.clear()
    assert reader.read(info, index) == runs[::-1]
    assert store.requests[READS] == 1
    monkeypatch.setattr(pages, "MAX_GAP_BYTES", 10)
    assert reader.read(info, [index[0], index[1], index[50]]) == [runs[99], runs[98], runs[49]]
    assert store.requests[READS] == 3
    spread = [*range(0, 100, 10)]
    assert reader.read(info, [index[n] for n in spread]) == [runs[99 - n] for n in spread]
    assert store.requests[READS] == 4
    monkeypatch.setattr(pages, "MAX_SPAN_BYTES", 10)
    assert reader.read(info, [index[n] for n in spread]) == [runs[99 - n] for n in spread]
    assert store.requests[READS] == 14


def test_what_is_rare_is_read_with_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "HEAD_BYTES", 5000)
    reader = PageReader(store := CountingStore())
    rare, common = runs_of(3, "rare", begin=50), runs_of(100)
    info = write_page(store, [*common, *rare])
    found, _ = reader.newest([info], limit=10, before=None, algorithm="rare", status=None)
    assert reader.read(info, [row for _, row in found]) == rare[::-1]
    assert store.requests[READS] == 1
    assert reader.read(info, reader.index(info, "blur")) == common[::-1]
    assert store.requests[READS] == 2


def test_a_filter_passes_over_pages_that_have_nothing_of_it() -> None:
    reader = PageReader(store := CountingStore())
    blur, denoise = write_page(store, runs_of(5)), write_page(store, runs_of(5, "denoise", begin=10))
    for algorithm, status in (("denoise", None), (None, RunStatus.FAILED), ("blur", RunStatus.FAILED)):
        found, more = reader.newest([blur, denoise], limit=10, before=None, algorithm=algorithm, status=status)
        assert ([info for info, _ in found], more) == ([denoise] * (5 if status is None else 0), False)
    assert store.requests[READS] == 1


def test_what_one_look_costs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It then has fewer runs than asked for, and there may be more."""
    monkeypatch.setattr(pages, "MAX_PAGES_A_LOOK", 3)
    reader = PageReader(store := CountingStore())
    written = [write_page(store, [*runs_of(1, begin=10 * n), *runs_of(9, "other", begin=10 * n + 1)]) for n in range(9)]
    found, more = reader.newest(written, limit=9, before=None, algorithm="blur", status=None)
    assert 0 < len(found) < 9
    assert more
    assert store.requests[READS] <= 4


def test_a_page_that_was_removed_is_an_error() -> None:
    store = MemoryObjectStore()
    info = write_page(store, runs_of(3))
    store.delete(page_key(info.name))
    with pytest.raises(ObjectNotFoundError):
        PageReader(store).find([info], info.first)


kinds = st.tuples(st.integers(0, 40), st.sampled_from(["blur", "denoise"]), st.sampled_from(["COMPLETED", "FAILED"]))


@ANY_TIME
@given(
    st.lists(st.lists(kinds, min_size=1, max_size=6), max_size=6),
    st.integers(1, 5),
    st.sampled_from([None, "blur", "denoise"]),
    st.sampled_from([None, RunStatus.FAILED]),
)
def test_a_listing_over_pages_that_overlap_is_complete_and_in_order(
    layout: Sequence[Sequence[tuple[int, str, str]]], limit: int, algorithm: str | None, status: RunStatus | None
) -> None:
    store = MemoryObjectStore()
    written: list[PageInfo] = []
    expected: list[str] = []
    for page in layout:
        runs = [
            stored(a_run(an_id(BEGIN + timedelta(seconds=second)), RunStatus(state), algorithm=name))
            for second, name, state in page
        ]
        written.append(write_page(store, runs))
        expected += [
            each.run.id
            for each in runs
            if algorithm in (None, each.run.algorithm) and status in (None, each.run.status)
        ]
    reader = PageReader(store)
    listed: list[str] = []
    before, more = None, True
    while more:
        found, more = reader.newest(written, limit=limit, before=before, algorithm=algorithm, status=status)
        assert len(found) <= limit
        assert found or not more
        listed += [row.id for _, row in found]
        before = listed[-1] if listed else None
    assert listed == sorted(expected, reverse=True)


def hashed(number: int) -> str:
    return f"{number:064x}"[::-1]


def test_the_run_of_a_key_is_found_by_one_index_and_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "HEAD_BYTES", 0)
    reader = PageReader(store := CountingStore())
    runs = [stored(run.run, key=hashed(n + 1)) for n, run in enumerate(runs_of(20))]
    infos = [write_page(store, runs[:10]), write_page(store, runs[10:])]
    assert reader.holder(infos, hashed(15)) == runs[14]
    assert store.requests[READS] == 2
    assert reader.holder(infos, hashed(99)) is None
    assert store.requests[READS] == 2


def test_a_key_that_only_looks_like_that_of_a_run_has_none() -> None:
    """The directory has the first bytes of it alone."""
    reader = PageReader(store := MemoryObjectStore())
    run = stored(runs_of(1)[0].run, key="ab" * 32)
    info = write_page(store, [run])
    index = KeyIndex()
    index.update({info.name: info})
    like = "ab" * 8 + "cd" * 24
    assert index.may_have(like)
    assert reader.holder([info], like) is None


def test_the_index_of_keys_follows_the_directory() -> None:
    store = MemoryObjectStore()
    index = KeyIndex()
    assert not index.may_have(hashed(1))
    infos = [write_page(store, [stored(run.run, key=hashed(n + 1))]) for n, run in enumerate(runs_of(3))]
    directory = {info.name: info for info in infos[:2]}
    index.update(directory)
    assert [index.may_have(hashed(n)) for n in (1, 2, 3)] == [True, True, False]
    directory[infos[2].name] = infos[2]
    index.update(directory)
    assert [index.may_have(hashed(n)) for n in (1, 2, 3)] == [True, True, True]
    directory[infos[0].name] = infos[0].model_copy(update={"keys": ""})  # they have expired
    index.update(directory)
    assert [index.may_have(hashed(n)) for n in (1, 2, 3)] == [False, True, True]
