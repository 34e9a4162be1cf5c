"""Runs that go on while processes of their server are killed, and what must hold of them all the same."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from t3d_server.client import Client
from t3d_server.errors import DatasetNotFoundError, ServerUnavailableError, StoreUnavailableError
from t3d_server.models import Run, RunStatus
from t3d_server.storage.s3 import S3Location, S3ObjectStore

if TYPE_CHECKING:
    from tests.conftest import Server

IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)
PROCESSES = {
    "replica": "ray::ServeReplica:chaos",
    "coordinator": "ray::CoordinatorActor",
    "router": "ray::ServeReplica:t3d:router",
    "controller": "ray::ServeController",
    "haproxy": r"\S*/haproxy ",
    "store": r"\S*/weed ",
}
"""How their command lines begin."""
SUBMITTERS = 4
PATIENCE_S = 110.0
SWEPT_S = 60.0

T = TypeVar("T")


@dataclass
class Chaos:
    """A server that is maltreated.

    Attributes:
        server: the server.
        client: its client.
        image: id of the dataset that all runs work on.
        amounts: what each accepted run adds, by its id.
        ended: the runs as they were first seen ended.
        kills: how many processes were killed.
        recoveries_s: how long it took after each kill until a run that was submitted then had ended.
    """

    server: Server
    client: Client
    image: str
    amounts: dict[str, int] = field(default_factory=dict)
    ended: dict[str, Run] = field(default_factory=dict)
    kills: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def submit(self, seconds: list[float]) -> None:
        """Submit runs that take so long each, from some threads."""
        with ThreadPoolExecutor(SUBMITTERS) as pool:
            list(pool.map(self._submit, seconds))

    def _submit(self, seconds: float) -> str:
        amount = next(self._count)
        args = {"seconds": seconds, "amount": amount}
        key = f"{self.image}/{amount}"
        run = patiently(lambda: self.client.submit("chaos", self.image, args=args, idempotency_key=key))
        self.amounts[run.id] = amount
        return run.id

    def kill(self, *names: str) -> None:
        """Kill all processes of these kinds at once, and wait until the server works again."""
        found = [pid for name in names for pid in self._processes(name)]
        began = time.monotonic()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1
        self.recover(began)

    def pause(self, name: str, pause_s: float) -> None:
        """Stop the processes of a kind for a time."""
        found = self._processes(name)
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(pause_s)
        for pid in found:
            os.kill(pid, signal.SIGCONT)
        self.recover(time.monotonic())

    def recover(self, since: float) -> None:
        """Returns when a run that is submitted now has ended."""
        self.end_of(self._submit(0.0))
        self.recoveries_s.append(time.monotonic() - since)

    def check(self) -> None:
        """Every run ends once and for all, with its own result, and nothing else is left in the store."""
        outputs = []
        for run_id, amount in self.amounts.items():
            run = self.end_of(run_id)
            assert run.status is RunStatus.COMPLETED, run
            assert self.ended.setdefault(run_id, run) == run
            [output] = run.output_dataset_ids
            result = patiently(lambda output=output: self.client.fetch(output))["image"]  # type: ignore[misc]  # now
            np.testing.assert_array_equal(result, IMAGE + amount)
            outputs.append(output)
        assert len(set(outputs)) == len(outputs)
        listed = [run.id for run in self.client.runs(limit=2 * len(outputs))]
        assert sorted(listed) == sorted(self.amounts)
        wanted = {f"datasets/{dataset_id}.h5" for dataset_id in [self.image, *outputs]}
        store = self.store()
        deadline = time.monotonic() + SWEPT_S
        while (left := {stat.key for stat in store.list("datasets/")}) != wanted:
            assert wanted <= left
            assert time.monotonic() < deadline, f"left behind: {left - wanted}"
            time.sleep(0.1)  # the sweep comes after the end, and tells nobody

    def summary(self) -> str:
        """What came of it."""
        longest_s = max(self.recoveries_s, default=0.0)
        attempts = [attempt for run in self.ended.values() for attempt in run.attempt_history]
        lost = sum(attempt.outcome == "lost" for attempt in attempts)
        missing = len(self.amounts) - len(self.ended)
        return (
            f"{len(self.amounts)} runs, {self.kills} kills, {len(attempts)} attempts of which {lost} were lost; "
            f"runs lost: {missing}, duplicated: 0; longest recovery {longest_s:.1f} s"
        )

    def store(self) -> S3ObjectStore:
        """The server's store."""
        kept = json.loads((self.server.state_dir / "store" / "identity.json").read_text())
        endpoint = f"127.0.0.1:{kept['ports']['s3']}"
        return S3ObjectStore(S3Location(endpoint, kept["access_key"], kept["secret_key"], "t3d", secure=False))

    def _processes(self, name: str) -> list[int]:
        """The processes of a kind, once there are any."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := [pid for pid, line in self.server.processes().items() if re.match(PROCESSES[name], line)]):
            assert time.monotonic() < deadline, f"there is no {name}"
            time.sleep(0.1)  # one that was killed is started again, and tells nobody
        return found

    def end_of(self, run_id: str) -> Run:
        """A run, once it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while not (run := patiently(lambda: self.client.get_run(run_id, wait_s=10))).status.ended:
            assert time.monotonic() < deadline, f"does not end: {run}"
        return run


def patiently(call: Callable[[], T]) -> T:
    """What a call gives, once the server is there."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except (ServerUnavailableError, StoreUnavailableError):
            assert time.monotonic() < deadline, "the server does not come back"
            time.sleep(0.1)  # no event tells
        except DatasetNotFoundError as error:
            raise AssertionError(f"an output is missing: {error}") from error
