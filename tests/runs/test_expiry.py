"""What has expired is removed, with all that belongs to it, and nothing that a run needs; so is what attempts left."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import ExpiredError, RunNotFoundError
from t3d_server.ids import tag_for
from t3d_server.models import Run, RunStatus
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.events import Event, Paged
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.pages import write_page
from t3d_server.runs import expiry
from t3d_server.runs.expiry import Expiry
from t3d_server.runs.interface import Outcome
from t3d_server.storage.keys import RUN_LOGS, RUN_PAGES, dataset_key, execution_key, run_log_key
from t3d_server.storage.memory import MemoryObjectStore
from t3d_server.storage.retention import SLACK_S
from tests.run_store.examples import a_run, accepted, an_id, ended, has_ended, stored
from tests.run_store.test_event_log import Log
from tests.runs.bench import OUTPUT, TIMINGS, Bench, Replicas, in_loop, line_of, timings

KEEP_S = 3600.0
OLD, YOUNG = 2 * KEEP_S, KEEP_S / 2


def aged(age_s: float) -> str:
    """An id that was made so long ago."""
    return an_id(datetime.now(UTC) - timedelta(seconds=age_s))


def old_run(age_s: float, *inputs: str) -> Run:
    return ended(a_run(aged(age_s), input_dataset_ids=list(inputs)))


class Kept:
    """A log of runs, and datasets, of which some have expired."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = MemoryObjectStore()
        self.log = Log(self.store)
        self.datasets = DatasetStore(self.store, scratch=tmp_path, max_dataset_bytes=0, keep_s=KEEP_S)
        self.history = RunHistory(self.store, keep_s=KEEP_S, keep_logs_s=KEEP_S / 4)
        clock = self.history.retention.clock
        compactor = Compactor(self.log, self.store, clock=clock, timings=TIMINGS)
        self.expiry = Expiry(self.log, self.history, self.datasets, Replicas(), compactor, clock=clock, timings=TIMINGS)

    async def write(self, *events: Event) -> None:
        await self.log.start()
        for event in events:
            await self.log.append(event).done

    async def page(self, *runs: Run) -> None:
        """Put ended runs with logs into a page."""
        page = write_page(self.store, [stored(run, lines=[line_of("hello")], key="ab" * 32) for run in runs])
        await self.write(Paged(page=page))
        await self.log.snapshot()

    def keys(self, folder: str) -> list[str]:
        return [stat.key for stat in self.store.list(folder)]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@in_loop
async def test_an_expired_run_goes_with_all_that_belongs_to_it(kept: Kept) -> None:
    """Whether it is in a page or not; the log of a younger one may go before."""
    runs = [old_run(OLD), old_run(YOUNG), old_run(OLD), old_run(YOUNG)]
    for run in runs:
        kept.store.put(run_log_key(f"{run.id}~p"), b"")
        kept.store.put(execution_key(run.id), b"{}")
    for run in runs[:2]:
        await kept.write(accepted(run, run.id.replace("-", "") * 2), has_ended(run, log=f"{run.id}~p"))
    for run in runs[2:]:
        await kept.page(run)
    await kept.expiry.remove_expired()

    assert list(kept.log.state.ended) == [runs[1].id]
    assert kept.log.state.holder(runs[0].id.replace("-", "") * 2) is None
    assert len(kept.keys(RUN_PAGES)) == len(kept.log.state.pages) == 1
    assert kept.keys(RUN_LOGS) == []
    assert kept.keys("executions/") == sorted(execution_key(run.id) for run in (runs[1], runs[3]))
    assert kept.history.find(runs[3].id).lines == []
    with pytest.raises(ExpiredError, match="T3D_KEEP_RUNS_S"):
        kept.history.find(runs[2].id)
    with pytest.raises(ExpiredError, match="T3D_KEEP_LOGS_S"):
        kept.history.log(kept.history.find(runs[3].id))
    with pytest.raises(RunNotFoundError):
        kept.history.find(aged(YOUNG))


@in_loop
async def test_a_page_of_which_some_has_not_expired_stays(kept: Kept) -> None:
    young = old_run(YOUNG)
    await kept.page(old_run(OLD), young)
    await kept.expiry.remove_expired()
    assert kept.history.find(young.id).run == young
    assert kept.history.newest(limit=9) == ([young], False)
    assert RunHistory(kept.store).find(young.id).lines == []  # the whole page is old enough for that


@in_loop
async def test_readers_find_what_is_left_as_soon_as_a_page_is_gone(kept: Kept) -> None:
    """By a directory from before as well as by the newest one."""
    young = old_run(YOUNG)
    await kept.page(old_run(OLD))
    await kept.page(young)
    before, fresh = RunHistory(kept.store), RunHistory(kept.store)
    before.newest(limit=9)
    before.pages._indexes.clear()  # nothing of it is in memory
    await kept.expiry.remove_expired()
    for reader in (before, fresh):
        assert reader.newest(limit=9) == ([young], False)
        assert reader.find(young.id).run == young


@in_loop
async def test_keys_that_have_expired_do_not_come_back_with_a_page_that_is_written_again(kept: Kept) -> None:
    run = old_run(YOUNG)
    await kept.page(run)
    [page] = kept.log.state.pages.values()
    kept.log.state.pages[page.name] = page.model_copy(update={"keys": ""})
    await kept.expiry.remove_expired()
    [page] = kept.log.state.pages.values()
    assert (page.logs, page.keys) == (False, "")


@in_loop
async def test_what_open_runs_need_stays(kept: Kept) -> None:
    """Their inputs, and they themselves, however old; also what has expired just now, as a run may be on its way."""
    needed, unneeded, young = aged(OLD), aged(OLD), aged(YOUNG)
    just_expired = aged(KEEP_S + SLACK_S / 2)
    for dataset_id in (needed, unneeded, just_expired, young):
        kept.store.put(dataset_key(dataset_id), b"")
    run = a_run(aged(OLD), input_dataset_ids=[needed])
    kept.store.put(run_log_key(f"{run.id}~p"), b"")
    await kept.write(accepted(run))
    await kept.expiry.remove_expired()

    assert kept.keys("datasets/") == sorted(map(dataset_key, (needed, just_expired, young)))
    assert list(kept.log.state.open) == [run.id]
    assert kept.keys(RUN_LOGS) == [run_log_key(f"{run.id}~p")]
    with pytest.raises(ExpiredError, match="T3D_KEEP_DATASETS_S"):
        kept.datasets.size(unneeded)
    with pytest.raises(ExpiredError):
        kept.datasets.require(needed)


@in_loop
async def test_what_nobody_has_used_expires_by_when_it_was_stored(kept: Kept) -> None:
    """Uploads and names of datasets."""
    for name in ("old", "anew"):
        kept.store.put(f"uploads/v0/{name}", b"")
        kept.store.put(f"names/v0/{name}.json", b"{}")
    for key in [*kept.keys("uploads/"), *kept.keys("names/")]:
        if "anew" not in key:
            stat = kept.store.stat(key)
            kept.store._stats[key] = replace(stat, stored_at=stat.stored_at - timedelta(seconds=OLD))
    await kept.write()
    await kept.expiry.remove_expired()
    assert kept.keys("uploads/") == ["uploads/v0/anew"]
    assert kept.keys("names/") == ["names/v0/anew.json"]


@in_loop
async def test_a_pass_is_bounded_and_says_that_there_is_more(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "LIMIT", 2)
    for _ in range(3):
        kept.store.put(dataset_key(aged(OLD)), b"")
    await kept.write()
    assert await kept.expiry.remove_expired()
    assert len(kept.keys("datasets/")) == 1
    assert not await kept.expiry.remove_expired()
    assert kept.keys("datasets/") == []


@in_loop
async def test_what_lost_attempts_have_left_is_removed_after_the_run_has_ended() -> None:
    """And again until the replica has certainly ended, which may have been out of reach; then never more."""
    bench = Bench()
    run = await bench.submit()
    _, _, lost = await bench.given("r1")
    lost.set_exception(ConnectionError("the replica died"))
    call_id, given, _ = await bench.given("r2")
    await bench.sweep()
    assert bench.datasets.tags == []  # it goes on
    await bench.finish(call_id, given)
    for passes in (1, 2):
        await bench.sweep()
        assert (bench.datasets.tags, bench.datasets.kept) == ([{tag_for(run.id)}] * passes, {OUTPUT})
        bench.clock.ahead_s += TIMINGS.expiry_s
    bench.replicas.gone.add("r1")
    for _ in range(3):
        await bench.sweep()
        bench.clock.ahead_s += TIMINGS.expiry_s
    assert len(bench.datasets.tags) == 3
    assert bench.state().sweeps == {}


@in_loop
async def test_a_sweep_is_due_some_time_after_the_last_dataset_may_have_been_stored() -> None:
    bench = Bench(timings=timings(sweep_after_s=30.0))
    run = await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.finish(call_id, given, Outcome(RunStatus.FAILED, leftovers=True))
    await bench.sweep()
    assert bench.datasets.tags == []
    bench.clock.ahead_s += 20
    await bench.runs.report_leftovers(run_id=run.id)  # another one, of a thread that outlives the run
    bench.clock.ahead_s += 20
    await bench.sweep()
    assert bench.datasets.tags == []
    bench.clock.ahead_s += 20
    await bench.sweep()
    assert bench.datasets.tags == [{tag_for(run.id)}]


@in_loop
async def test_what_a_process_has_left_is_removed_also_after_a_restart() -> None:
    """A deletion that failed, or a put whose answer was lost, is on record; so is it where the run is in a page."""
    before = Bench(timings=timings(page_runs=1))
    run = await before.submit()
    await before.work()
    await before.compact()
    await before.runs.report_leftovers(run_id=run.id)
    after = await Bench(before.store).start()
    after.clock.ahead_s += 1
    await after.sweep()
    assert (after.datasets.tags, after.datasets.kept) == ([{tag_for(run.id)}], {OUTPUT})


@in_loop
async def test_a_run_that_nothing_happened_to_costs_no_sweep() -> None:
    bench = Bench()
    await bench.submit()
    await bench.work()
    await bench.sweep()
    assert (bench.datasets.tags, bench.state().sweeps) == ([], {})


@in_loop
async def test_a_sweep_that_failed_is_repeated() -> None:
    bench = Bench()
    await bench.submit()
    call_id, given, _ = await bench.given()
    await bench.finish(call_id, given, Outcome(RunStatus.FAILED, leftovers=True))
    remove = bench.datasets.remove_tagged

    def fails(tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        raise OSError

    bench.datasets.remove_tagged = fails  # type: ignore[method-assign]
    with pytest.raises(OSError):
        await bench.sweep()
    bench.datasets.remove_tagged = remove  # type: ignore[method-assign]
    bench.clock.ahead_s += TIMINGS.expiry_s
    await bench.sweep()
    assert len(bench.datasets.tags) == 1
