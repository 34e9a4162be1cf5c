"""A bucket of the former layout, as that version's own code left it (see `make_bucket`), and an importer."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal

from t3d_server.errors import StoreUnavailableError
from t3d_server.models import LogLine, Run
from t3d_server.run_store.compaction import Compactor
from t3d_server.run_store.event_log import EventLog
from t3d_server.run_store.events import decode
from t3d_server.run_store.former.importer import FormerLayout
from t3d_server.run_store.former.objects import DONE, FormerObjects, open_key
from t3d_server.run_store.history import RunHistory
from t3d_server.run_store.logs import read_log
from t3d_server.run_store.pages import PageReader
from t3d_server.run_store.records import StoredRun
from t3d_server.run_store.segments import newest_snapshot
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.storage.base import ObjectStat, ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS, segment_key
from t3d_server.storage.memory import MemoryObjectStore

BUCKET = json.loads((Path(__file__).parent / "bucket.json").read_text("utf-8"))
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
