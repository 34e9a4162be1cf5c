"""A bucket of the former layout, as that version's own code left it: see `make_former_bucket`."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pytest

from t3d_server.errors import ExpiredError, RunNotFoundError, StoreUnavailableError
from t3d_server.ids import new_id, tag_for, time_of
from t3d_server.models import AlgorithmVersion, LogLine, Manifest, Parameter, Run, RunRequest, RunStatus
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import decode
from t3d_server.run_store.former import batches
from t3d_server.run_store.former.importer import FormerLayout
from t3d_server.run_store.former.objects import DONE, OPEN, FormerObjects, done_key, open_key
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.logs import read_log
from t3d_server.run_store.pages import PageReader
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.segments import newest_snapshot
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.runs.acceptance import RunLimits
from t3d_server.runs.admission import key_hash
from t3d_server.runs.interface import AttemptKey, Lines, Outcome, QueueName
from t3d_server.runs.scheduler import RunScheduler
from t3d_server.storage.base import ObjectStat, ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS, segment_key
from t3d_server.storage.memory import MemoryObjectStore
from t3d_server.storage.retention import SLACK_S

BUCKET = json.loads((Path(__file__).parent / "former_bucket.json").read_text("utf-8"))
OBJECTS: dict[str, str] = BUCKET["objects"]
NAMES: dict[str, str] = BUCKET["names"]
OPEN_NAMES = ("claimed", "pending", "running", "cancelling")
MADE = datetime.fromisoformat(BUCKET["time"])
TIMINGS = Timings(store_retry_s=0.001, heartbeat_s=0.01, page_runs=6, announce_s=0.0, watch_s=0.01, sweep_look_s=0.01)
FORMER_FOLDERS = ("coordinator/", "runs/open/", "runs/done/", "runs/index/", "runs/of/", "runs/keys/")


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test in an event loop of its own, and not for ever."""

    @functools.wraps(test)
    def wrapper(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 100))

    return wrapper


class Clock:
    """Shows the time at which the bucket was made, and is moved by hand."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return MADE + timedelta(seconds=1 + self.passed_s)

    def seconds(self) -> float:
        return 1000.0 + self.passed_s


class Store(MemoryObjectStore):
    """A store that counts its calls, and can go away for good at one that changes something.

    Args:
        fails_at: number of the first put or delete that fails; 0 for none. From then on every call fails.
        applies: whether that one is carried out nevertheless; "half" of a delete may be.
    """

    def __init__(self, fails_at: int = 0, *, applies: Literal["no", "half", "yes"] = "no") -> None:
        super().__init__()
        self.fails_at = fails_at
        self.applies = applies
        self.calls = self.changes = 0
        self.reads: Counter[str] = Counter()
        self.unstored_reads = self.most_unstored_reads = 0
        self._counting = threading.Lock()

    @property
    def is_away(self) -> bool:
        return 0 < self.fails_at <= self.changes

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        self._call(changes=True)
        super().put(key, data, if_absent=if_absent)
        self._answer()
        if key.startswith("runs/pages/"):
            self.unstored_reads = 0

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        self._call()
        self.reads[key] += 1
        if key.startswith(DONE):
            self.unstored_reads += 1
            self.most_unstored_reads = max(self.most_unstored_reads, self.unstored_reads)
        return super().get(key, offset=offset, length=length)

    def stat(self, key: str) -> ObjectStat:
        self._call()
        return super().stat(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        self._call()
        return super().list(prefix, start_after=start_after)

    def delete(self, *keys: str) -> None:
        self._call(changes=True)
        super().delete(*(keys[::2] if self.is_away and self.applies == "half" else keys))
        self._answer()

    def _call(self, *, changes: bool = False) -> None:
        """Raises if the store is away, and the call is not carried out."""
        with self._counting:
            was_away = self.is_away
            self.calls += 1
            self.changes += changes
            if was_away or (self.is_away and self.applies == "no"):
                raise StoreUnavailableError("away")

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("away")


def former_bucket(store: Store | None = None) -> Store:
    """A store with the objects of the fixture."""
    store = store or Store()
    for key, text in OBJECTS.items():
        MemoryObjectStore.put(store, key, text.encode())
    return store


def moved(store: MemoryObjectStore) -> Store:
    """The same objects in a store that works."""
    copy = Store()
    for stat in MemoryObjectStore.list(store, ""):
        MemoryObjectStore.put(copy, stat.key, b"".join(MemoryObjectStore.get(store, stat.key)))
    return copy


class Importer:
    """One cluster's import."""

    def __init__(self, store: ObjectStore, cluster: str = "new", *, keep_s: float | None = None) -> None:
        self.clock = Clock()
        self.adopted = 0
        self.objects = FormerObjects(store)
        self.history = RunHistory(store, keep_s=keep_s, clock=self.clock)
        self.log = EventLog(store, cluster, clock=self.clock, executor=None, timings=TIMINGS, fenced=lambda: None)
        compactor = Compactor(self.log, store, clock=self.clock, timings=TIMINGS)
        self.layout = FormerLayout(
            self.log,
            self.objects,
            self.history,
            compactor,
            clock=self.clock,
            timings=TIMINGS,
            adopt=self._adopt,
        )

    async def run(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Import all there is, while time passes."""
        await self.log.start()
        while not self.objects.is_empty and not until():
            if not await self.layout.step():
                self.clock.passed_s += 4.0

    async def _adopt(self) -> None:
        self.adopted += 1


def expected(names: Collection[str] = OPEN_NAMES) -> dict[str, StoredRun]:
    """Every run of the fixture, with its whole log.

    Args:
        names: those that are open.
    """
    keys = {key: json.loads(text) for key, text in OBJECTS.items() if key.startswith("runs/keys/")}
    records = [text for key, text in OBJECTS.items() if key.startswith(DONE)]
    records += [OBJECTS[open_key(NAMES[name])] for name in names]
    found = {}
    for text in records:
        record = json.loads(text)
        log = OBJECTS.get(f"runs/logs/{record['id']}.jsonl", "").encode()
        found[record["id"]] = StoredRun(
            run=Run.model_validate_json(text),
            key=record["key"],
            request_sha256=keys[f"runs/keys/{record['key']}.json"]["request_sha256"] if record["key"] else "",
            lines=[LogLine.model_validate_json(line) for line in log.splitlines()],
        )
    return found


def load(store: ObjectStore) -> State:
    """The state as a process finds it that starts."""
    newest = newest_snapshot(store)
    state = State() if newest is None else State.load(newest[1])
    for stat in list(store.list(RUN_EVENTS, start_after=segment_key(state.seq))):
        assert stat.key == segment_key(state.seq + 1)
        state.apply(*decode(read(store, stat.key)))
    return state


def stored_runs(store: ObjectStore) -> dict[str, StoredRun]:
    """Every run of the log of events and its pages, with its whole log; none may be there twice."""
    state = load(store)
    reader = PageReader(store)
    runs = [*state.open.values(), *state.ended.values()]
    runs += [stored for page in state.pages.values() for stored in reader.read(page, reader.index(page))]
    counts = Counter(stored.run.id for stored in runs)
    assert max(counts.values()) == 1
    whole = {}
    for stored in runs:
        lines = read_log(store, stored.log).lines if stored.log else stored.lines
        whole[stored.run.id] = stored.model_copy(update={"lines": lines, "log": "", "owner": ""})
    return whole


def assert_imported(store: MemoryObjectStore, clusters: Collection[str] = ("new",)) -> None:
    """All runs are there, once and as they were; nothing of the former layout is but what the v0 API keeps."""
    assert stored_runs(store) == expected()
    state = load(store)
    assert set(state.open) == {NAMES[name] for name in OPEN_NAMES}
    assert {stored.owner for stored in state.open.values()} <= set(clusters)
    assert set(state.sweeps) == {NAMES["unfiled"]}
    keys = [stat.key for stat in store.list("")]
    assert not [key for key in keys if key.startswith(FORMER_FOLDERS)]
    assert not [key for key in keys if key.startswith("runs/logs/") and "~" not in key]
    assert [key for key in keys if key.startswith("executions/")] == [key for key in OBJECTS if "executions/" in key]
    pages = {key for key in keys if key.startswith("runs/pages/")}
    assert {f"runs/pages/{name}.jsonl" for name in state.pages} <= pages


@in_loop
async def test_everything_is_imported_and_the_former_objects_go() -> None:
    store = former_bucket()
    importer = Importer(store)
    await importer.run()
    assert_imported(store)
    assert importer.adopted > 0
    state = load(store)
    assert [sum(page.counts.values()) for page in state.pages.values()] == [6, 6, 6]
    assert len(state.ended) == 1
    assert [stat.key.rpartition("~")[2] for stat in store.list("runs/logs/")] == ["former.jsonl"]


@in_loop
async def test_a_bucket_without_the_former_layout_costs_three_listings_once() -> None:
    store = Store()
    importer = Importer(store)
    await importer.log.start()
    before = store.calls
    assert not await importer.layout.step()
    assert store.calls == before + 3
    assert not await importer.layout.step()
    assert store.calls == before + 3


@in_loop
async def test_memory_is_bounded_by_a_page() -> None:
    """No more records are read than one page takes before they are stored."""
    store = former_bucket()
    await Importer(store).run()
    assert store.most_unstored_reads == TIMINGS.page_runs


@in_loop
async def test_each_record_is_read_once() -> None:
    store = former_bucket()
    await Importer(store).run()
    assert {count for key, count in store.reads.items() if key.startswith((DONE, OPEN))} == {1}


@pytest.mark.parametrize("applies", ["no", "half", "yes"])
def test_a_crash_at_any_change_of_the_store_changes_nothing(
    applies: Literal["no", "half", "yes"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another cluster goes on, and the end is the same. Calls that only read leave what the one before has left."""
    monkeypatch.setattr(batches, "BATCH", 5)

    async def crashed(fails_at: int) -> Store:
        store = former_bucket(Store(fails_at, applies=applies))
        importer = Importer(store)
        with suppress(StoreUnavailableError):
            await importer.run(until=lambda: store.is_away)
        return store

    async def resumed(store: Store) -> None:
        await Importer(store, "second").run()

    fails_at = 0
    while True:
        fails_at += 1
        store = asyncio.run(crashed(fails_at))
        left = moved(store)
        asyncio.run(resumed(left))
        assert_imported(left, ("new", "second"))
        if not store.is_away:
            break
    assert fails_at > 30


@in_loop
async def test_clusters_that_import_at_the_same_time_import_each_run_once() -> None:
    store = former_bucket()
    importers = [Importer(store, f"new-{number}") for number in range(3)]
    await asyncio.gather(*(importer.run() for importer in importers))
    assert_imported(store, [f"new-{number}" for number in range(3)])


class FormerServer:
    """A server of the former version, as far as others see it."""

    def __init__(self, store: ObjectStore, cluster: str) -> None:
        self.store = store
        self.cluster = cluster
        self.renew()

    def renew(self) -> None:
        self.store.put(f"coordinator/{self.cluster}.json", json.dumps({"renewal": new_id()}).encode())

    def claim(self, cluster: str) -> None:
        content = json.dumps({"heir": self.cluster}).encode()
        self.store.put(f"coordinator/{cluster}.claim", content, if_absent=True)

    def end(self, run_id: str) -> None:
        """Store an outcome, and file it."""
        record = json.loads(read(self.store, open_key(run_id)))
        record |= {"status": "COMPLETED", "ended_at": MADE.isoformat(), "progress": 1.0, "owner": self.cluster}
        self.store.put(done_key(run_id), json.dumps(record).encode(), if_absent=True)
        self.store.delete(open_key(run_id))


@in_loop
async def test_the_runs_of_a_server_that_is_alive_are_left_to_it() -> None:
    """Those that it ends are imported when they have, nothing is removed, and the others follow when it is gone."""
    store = former_bucket()
    server = FormerServer(store, "fourth")
    server.claim("second")
    importer = Importer(store)
    await importer.log.start()

    async def look(times: int = 12) -> None:
        for _ in range(times):
            server.renew()
            while await importer.layout.step():
                pass
            importer.clock.passed_s += 4.0

    await look()
    ended = {run_id for run_id, stored in expected().items() if stored.run.status.ended}
    assert set(stored_runs(store)) == ended
    assert not importer.log.state.open
    assert {key for key in OBJECTS if key.startswith("runs/")} <= {stat.key for stat in store.list("runs/")}
    assert sum(page for key, page in store.reads.items() if key.startswith(DONE)) == len(ended)

    server.end(NAMES["pending"])
    await look(2)
    assert importer.log.state.ended[NAMES["pending"]].run.status is RunStatus.COMPLETED
    assert not importer.log.state.open

    for _ in range(20):
        while await importer.layout.step():
            pass
        importer.clock.passed_s += 4.0
    assert importer.objects.is_empty
    assert set(importer.log.state.open) == {NAMES[name] for name in OPEN_NAMES} - {NAMES["pending"]}
    assert set(stored_runs(store)) == set(expected())


@in_loop
async def test_a_server_that_was_shut_down_is_not_waited_for() -> None:
    store = former_bucket()
    for cluster in ("first", "second"):
        store.put(f"coordinator/{cluster}.json", b'{"released": true}')
    importer = Importer(store)
    await importer.log.start()
    await importer.layout.step()
    assert set(importer.log.state.open) == {NAMES[name] for name in OPEN_NAMES}


@in_loop
async def test_a_server_that_comes_back_finds_its_claim_until_its_lease_is_gone() -> None:
    """Else it would go on with runs that are another's."""
    store = former_bucket()
    importer = Importer(store)
    await importer.run(until=lambda: bool(importer.log.state.open))
    claims = {stat.key: read(store, stat.key) for stat in store.list("coordinator/") if stat.key.endswith(".claim")}
    heirs = {key: json.loads(content)["heir"] for key, content in claims.items()}
    assert heirs == {
        "coordinator/first.claim": "second",
        "coordinator/second.claim": "runs/log/",
        "coordinator/third.claim": "runs/log/",
    }


@in_loop
async def test_a_server_that_comes_while_all_is_removed_stops_that() -> None:
    store = former_bucket()
    importer = Importer(store)
    done = len([key for key in OBJECTS if key.startswith(DONE)])
    await importer.run(until=lambda: sum(n for key, n in store.reads.items() if key.startswith(DONE)) >= done)
    FormerServer(store, "fourth")
    for _ in range(3):
        await importer.layout.step()
        importer.clock.passed_s += 4.0
    assert {key for key in OBJECTS if key.startswith("runs/")} <= {stat.key for stat in store.list("runs/")}
    await importer.run()
    assert_imported(store)


@in_loop
async def test_what_has_expired_is_removed_and_not_imported() -> None:
    store = former_bucket()
    runs = sorted(run_id for run_id, stored in expected().items() if stored.run.status.ended)
    importer = Importer(store, keep_s=100.0)
    importer.clock.passed_s = (time_of(runs[5]) - MADE).total_seconds() + 100.0 + SLACK_S - 1.0 - 16.0
    store.put("coordinator/second.json", b'{"released": true}')
    while importer.clock.now() < time_of(runs[5]) + timedelta(seconds=100.0 + SLACK_S):
        importer.clock.passed_s += 0.001
    await importer.run()
    assert set(stored_runs(store)) == set(runs[5:]) | {NAMES[name] for name in OPEN_NAMES}
    assert not list(store.list(DONE))


@in_loop
async def test_a_record_that_cannot_be_read_stays_and_hinders_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = former_bucket()
    run_id = next(run_id for run_id, stored in expected().items() if stored.lines and stored.run.status.ended)
    store.put(done_key(run_id), b"{")
    importer = Importer(store)
    await importer.run()
    assert set(stored_runs(store)) == set(expected()) - {run_id}
    former = [stat.key for folder in (*FORMER_FOLDERS, "runs/logs/") for stat in store.list(folder)]
    assert [key for key in former if "~" not in key] == [done_key(run_id), f"runs/logs/{run_id}.jsonl"]
    assert f"run {run_id} of the former layout cannot be read" in caplog.text


# The scheduler


class Catalog:
    """A catalog of all algorithms."""

    async def refresh(self) -> None:
        pass

    def find(self, name: str, version: str | None = None) -> AlgorithmVersion:
        manifest = Manifest(
            name=name,
            version="1.0.0",
            additional_parameters=[Parameter(name="sigma", description="width", type="float", default=1.0)],
        )
        return AlgorithmVersion(manifest=manifest, source_sha256="0", module_sha256="0", assets={})


class Datasets:
    """Datasets, of which none expire; the tags whose outputs were removed."""

    expires = False

    def __init__(self) -> None:
        self.swept: set[str] = set()

    def remove_expired(self, spared: Collection[str], limit: int) -> int:
        return 0

    def remove_expired_uploads(self, limit: int) -> int:
        return 0

    def remove_tagged(self, tags: Collection[str], since: datetime, *, but: Collection[str]) -> None:
        self.swept |= set(tags)


class Server:
    """A scheduler whose replicas complete each run at once, and are those of the former server no more."""

    def __init__(self, store: ObjectStore, cluster: str = "new", *, keep_s: float | None = None) -> None:
        self.clock = Clock()
        self.executed: Counter[str] = Counter()
        self.datasets = Datasets()
        self.history = RunHistory(store, keep_s=keep_s, clock=self.clock)
        self.scheduler = RunScheduler(
            self.history,
            self.datasets,
            cluster=cluster,
            catalog=Catalog(),
            replicas=self,
            devices=lambda: ["cpu"],
            slots=lambda manifest, device: 1,
            limits=RunLimits(max_run_s=60, cancel_grace_s=60, max_queued=100, max_queued_per_algorithm=100),
            clock=self.clock,
            timings=TIMINGS,
        )

    async def work(self, queue: QueueName, call_id: str) -> None:
        run = await self.scheduler.begin(call_id=call_id, replica="mine")
        while run is not None:
            self.executed[run.id] += 1
            attempt = AttemptKey(run.id, run.attempts, "mine")
            receipt = await self.scheduler.finish(
                call_id=call_id, attempt=attempt, outcome=Outcome(RunStatus.COMPLETED), lines=Lines()
            )
            run = receipt.following

    async def obstacle(self, queue: QueueName) -> str | None:
        return None

    async def shortage(self, queue: QueueName) -> str | None:
        return None

    async def is_gone(self, replica: str) -> bool:
        return replica != "mine"

    async def kill(self, replica: str) -> None:
        pass

    async def submit(self, number: int, algorithm: str, key: str | None = None) -> Run:
        request = RunRequest(input_dataset_ids=[], args={"sigma": float(number)}, device="cpu")
        return await self.scheduler.submit(algorithm=algorithm, request=request, run_id=new_id(), key=key)

    async def find(self, run_id: str) -> Run:
        """A run as a client finds it."""
        try:
            return await self.scheduler.get(run_id=run_id)
        except RunNotFoundError:
            return (await asyncio.to_thread(self.history.find, run_id)).run

    async def log(self, run_id: str) -> list[LogLine]:
        try:
            return await self.scheduler.log(run_id=run_id)
        except RunNotFoundError:
            return self.history.log(await asyncio.to_thread(self.history.find, run_id))

    async def imported(self, store: MemoryObjectStore) -> None:
        """Return once nothing of the former layout is left; time passes meanwhile."""
        while next(iter(MemoryObjectStore.list(store, "coordinator/")), None) is not None:
            self.clock.passed_s += 1.0
            await asyncio.sleep(0.01)


async def assert_found(server: Server) -> None:
    """Ended runs are found by their ids, and their logs."""
    for run_id, stored in expected(()).items():
        assert await server.find(run_id) == stored.run
        assert await server.log(run_id) == stored.lines


@in_loop
async def test_open_runs_go_on_and_end_once_and_ended_ones_are_found() -> None:
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    await assert_found(server)  # nothing is imported yet
    await server.imported(store)
    await assert_found(server)
    ends = {name: await server.scheduler.get(run_id=NAMES[name], wait_s=10) for name in OPEN_NAMES}
    assert {name: run.status for name, run in ends.items()} == {
        "claimed": RunStatus.COMPLETED,
        "pending": RunStatus.COMPLETED,
        "running": RunStatus.COMPLETED,
        "cancelling": RunStatus.CANCELLED,
    }
    assert server.executed == {NAMES[name]: 1 for name in ("claimed", "pending", "running")}
    assert [attempt.outcome for attempt in ends["running"].attempt_history] == ["lost", "completed"]
    assert (await server.log(NAMES["running"]))[0].message == "half way"

    again = Server(store, "newer")
    again.clock.passed_s = server.clock.passed_s
    await server.scheduler.release()
    await again.scheduler.start()
    await assert_found(again)
    assert await again.find(NAMES["running"]) == ends["running"]
    assert not again.executed


@in_loop
async def test_lists_have_all_runs() -> None:
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    await server.imported(store)
    live = await server.scheduler.list(limit=100)
    paged, more = server.history.newest(limit=100, snapshot_seq=live.snapshot_seq)
    assert {run.id for run in [*live.runs, *paged]} == set(expected())
    assert not more
    of_blur, _ = server.history.newest(limit=100, algorithm="blur", status=RunStatus.FAILED)
    failed = [stored.run for stored in expected(()).values() if stored.run.status is RunStatus.FAILED]
    listed = await server.scheduler.list(limit=100, algorithm="blur", status=RunStatus.FAILED)
    assert {run.id for run in [*of_blur, *listed.runs]} == {run.id for run in failed if run.algorithm == "blur"}


@pytest.mark.parametrize("imported", [True, False])
@in_loop
async def test_a_key_gives_the_run_that_was_submitted_with_it(imported: bool) -> None:
    """Also before the import of that run, whether it has ended or is left to a server that is alive."""
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    if imported:
        await server.imported(store)
    by_key = {stored.key: stored.run for stored in expected().values()}
    for number in (0, 4, 8, 12, 16, 100, 101, 102, 103, 104):
        run = by_key[key_hash(f"key-{number}")]
        assert (await server.submit(number, run.algorithm, f"key-{number}")).id == run.id
    new = await server.submit(3, "blur", "key-3")
    assert new.id not in expected()


@in_loop
async def test_datasets_of_a_run_are_swept_whose_outcome_was_stored_and_no_more() -> None:
    store = former_bucket()
    server = Server(store)
    await server.scheduler.start()
    await server.imported(store)
    server.clock.passed_s += 60.0
    while not server.datasets.swept:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)
    assert tag_for(NAMES["unfiled"]) in server.datasets.swept


@in_loop
async def test_a_run_that_expired_before_its_import_is_gone() -> None:
    store = former_bucket()
    server = Server(store, keep_s=10.0)
    server.clock.passed_s = 20.0
    await server.scheduler.start()
    with pytest.raises(ExpiredError):
        await server.find(next(iter(expected(()))))
