"""What a simulated process is given in place of the real thing: store, clock, datasets, history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from t3d_server.clock import Clock
from t3d_server.datasets.store import DatasetStore
from t3d_server.ids import new_id, tagged_id, time_of
from t3d_server.models import DatasetInfo
from t3d_server.run_store.history import RunHistory
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import dataset_key
from t3d_server.storage.retention import Retention
from tests.simulation.clocks import SimClock
from tests.simulation.loop import SimLoop
from tests.simulation.processes import Process
from tests.simulation.store import SimStore
from tests.simulation.threads import Job

if TYPE_CHECKING:
    from tests.simulation.world import World

SLACK_S = 60.0
"""In place of `retention.SLACK_S`."""


class Anything(BaseModel):
    """A schema that any dataset fits."""

    model_config = ConfigDict(extra="allow")


class SerialPool(Executor):
    """An executor in a simulated thread: it does one thing after the other, there and then."""

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers

    def map(  # type: ignore[override]
        self, function: Callable[..., Any], *iterables: Iterable[Any], **_: Any
    ) -> Iterator[Any]:
        """See `Executor.map`."""
        return iter([function(*items) for items in zip(*iterables, strict=True)])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is left to be done."""


class SimLock:
    """A lock between simulated threads, which block on the store while they hold it.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._held = False
        self._waiting: list[Job] = []

    def __enter__(self) -> None:
        while self._held:
            job = self._loop.job
            assert job is not None
            job.block(self._waiting.append)
        self._held = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held = False
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._loop.later(0.0, job.step, None, None, process=job.process)


class SimHistory(RunHistory):
    """The ended runs, with a lock between simulated threads, and little slack."""

    def __init__(
        self, store: ObjectStore, loop: SimLoop, clock: Clock, keep_s: float | None, keep_logs_s: float | None
    ) -> None:
        super().__init__(store, clock=clock)
        self.retention = Retention("run", keep_s, "T3D_KEEP_RUNS_S", clock, SLACK_S)
        self.log_retention = Retention("the log of run", keep_logs_s, "T3D_KEEP_LOGS_S", clock, SLACK_S)
        self._lock = SimLock(loop)  # type: ignore[assignment]


class SimDatasets(DatasetStore):
    """Datasets whose content is a few bytes."""

    def __init__(self, store: ObjectStore, clock: Clock, keep_s: float | None) -> None:
        super().__init__(store, scratch=Path("/nowhere"), max_dataset_bytes=1 << 20)
        self._retention = Retention("dataset", keep_s, "T3D_KEEP_DATASETS_S", clock, SLACK_S)

    def add(self, values: Mapping[str, Any], *, tag: str | None = None) -> DatasetInfo:
        """Store values as JSON."""
        dataset_id = new_id() if tag is None else tagged_id(tag)
        content = json.dumps(dict(values)).encode()
        self._store.put(dataset_key(dataset_id), content)
        return DatasetInfo(
            id=dataset_id, size_bytes=len(content), created_at=time_of(dataset_id), arrays={}, values=dict(values)
        )

    def read(self, dataset_id: str, keys: Sequence[str] = ()) -> dict[str, Any]:
        """Read what `add` has stored."""
        with self._named(dataset_id):
            return dict(json.loads(read(self._store, dataset_key(dataset_id))))


class Resources:
    """What one process is given.

    Args:
        world: the simulation.
        process: the process.

    Attributes:
        store: the store as it reaches it.
        clock: its clock.
        datasets: the datasets.
        history: the ended runs.
    """

    def __init__(self, world: World, process: Process) -> None:
        self.store = SimStore(world, process)
        self.clock = SimClock(world.loop, process)
        keeps = world.plan.keeps
        self.datasets = SimDatasets(self.store, self.clock, keeps.datasets_s)
        self.history = SimHistory(self.store, world.loop, self.clock, keeps.runs_s, keeps.logs_s)
