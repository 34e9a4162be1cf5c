"""The object store as one process reaches it: slow, failing, and at times silent about what it has done."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from t3d_server.errors import ObjectExistsError, StoreUnavailableError
from t3d_server.storage.base import ObjectStat
from tests.simulation.clocks import wall_time
from tests.simulation.processes import Process
from tests.simulation.threads import Job

if TYPE_CHECKING:
    from tests.simulation.world import World

ZOMBIE_S = 5.0
"""What was applied late was so after this time at most, once it has failed."""


class SimStore:
    """See `storage.base.ObjectStore`.

    Args:
        world: the simulation.
        process: who calls.
    """

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._name = process.name

    def prepare(self) -> None:
        """See `ObjectStore.prepare`."""
        self._call("prepare", "probe", lambda: None, writes=False)

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        content = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else data.read()

        def apply() -> None:
            now = wall_time(self._world.loop, None)
            self._world.bucket.put(key, content, now, if_absent=if_absent, by=self._name)

        self._call("put", key, apply, writes=True, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        """See `ObjectStore.get`."""
        content: bytes = self._call("get", key, lambda: self._world.bucket.get(key), writes=False)
        end = len(content) if length is None else offset + length
        return (chunk for chunk in [content[offset:end]])

    def stat(self, key: str) -> ObjectStat:
        """See `ObjectStore.stat`."""
        stat: ObjectStat = self._call("stat", key, lambda: self._world.bucket.stat(key), writes=False)
        return stat

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        """See `ObjectStore.list`; asked for when it is iterated, as S3's is."""
        yield from self._call("list", prefix, lambda: self._world.bucket.list(prefix, start_after), writes=False)

    def delete(self, *keys: str) -> None:
        """See `ObjectStore.delete`; some of several may be removed where it fails."""
        if not keys:
            return

        def apply() -> None:
            for key in keys:
                self._world.bucket.delete(key, self._name)

        self._call("delete", " ".join(keys), apply, writes=True)

    def _call(self, kind: str, key: str, apply: Callable[[], Any], *, writes: bool, if_absent: bool = False) -> Any:
        job = self._world.loop.job
        if job is None:
            self._world.findings.violation("blocking-io", f"{kind} {key} was called on an event loop")
            return apply()
        return job.block(lambda job: self._send(job, kind, key, apply, writes, if_absent))

    def _send(self, job: Job, kind: str, key: str, apply: Callable[[], Any], writes: bool, if_absent: bool) -> None:
        """Have a call arrive, and its answer come back; or not."""
        world, rng = self._world, self._world.rngs["store"]
        send_s, back_s = self._way_s(rng), self._way_s(rng)
        fate, silence_s = self._fate(rng), rng.choice([0.02, 0.3, 3.0, 10.0])

        def answer(value: Any, error: Exception | None, after_s: float) -> None:
            result = type(error).__name__ if error else "ok"
            world.trace("store", f"{self._name} {kind} {key}{' if_absent' if if_absent else ''} -> {result}")
            world.loop.later(after_s, job.step, value, error, process=self._process)

        def fail(after_s: float) -> None:
            answer(None, StoreUnavailableError("the store cannot be reached"), after_s)

        def apply_late() -> None:
            world.trace("store", f"{self._name} {kind} {key} is applied late")
            with suppress(Exception):
                apply()

        def arrive() -> None:
            away_s = world.outages.silence_s(self._process.site)
            if away_s is not None:
                return fail(away_s)
            if fate == "fails":
                return fail(silence_s)
            if fate == "zombie" and writes:
                world.loop.later(silence_s + rng.uniform(0.0, ZOMBIE_S), apply_late)
                return fail(silence_s)
            try:
                value = apply()
            except Exception as error:
                return answer(None, error, back_s)
            if fate == "late" and writes:
                return fail(silence_s)
            if fate == "own" and if_absent:
                return answer(None, ObjectExistsError("its own, which was sent again"), back_s + 0.2)
            return answer(value, None, back_s)

        world.loop.later(send_s, arrive)

    def _way_s(self, rng: random.Random) -> float:
        way_s = rng.uniform(0.0005, 0.006)
        if rng.random() < self._world.faults.slow_store:
            way_s += rng.expovariate(1 / 0.4)
        return way_s

    def _fate(self, rng: random.Random) -> str:
        faults, draw = self._world.faults, rng.random()
        for fate, chance in (
            ("fails", faults.store_fails),
            ("late", faults.store_late),
            ("own", faults.store_own),
            ("zombie", faults.store_zombie),
        ):
            if draw < chance:
                return fate
            draw -= chance
        return "ok"
