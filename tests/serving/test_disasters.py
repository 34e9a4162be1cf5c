"""Whole servers that are killed again and again, or that stand still while another one takes over; `make chaos`."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from t3d_server.client import Client
from t3d_server.errors import ServerUnavailableError, StoreUnavailableError
from t3d_server.packages.folder import scan
from t3d_server.storage.embedded import EmbeddedStore
from tests.conftest import store_options
from tests.serving.chaos import IMAGE, Chaos, patiently

if TYPE_CHECKING:
    from tests.conftest import Server

    StartServer = Callable[..., AbstractContextManager[Server]]

CHAOS = Path(__file__).parents[1] / "packages" / "chaos"
KILLS = int(os.environ.get("T3D_TEST_KILLS", "50"))
SLEEP_S = 30.0


class Submitters:
    """Threads that submit with keys, and repeat what was not answered, for as long as the test goes on."""

    def __init__(self, clients: Callable[[], Client], image: str, threads: int) -> None:
        self.accepted: dict[int, str] = {}
        self.amounts = 0
        self._clients = clients
        self._image = image
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Submitters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Submit no more; returns when all that was submitted is accepted."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._over.is_set():
            with self._lock:
                self.amounts += 1
                amount = self.amounts
            args = {"seconds": chance.choice([0.0, 0.1, 0.5, 2.0]), "amount": amount}
            while amount not in self.accepted:
                try:
                    key = f"{self._image}/{amount}"
                    run = self._clients().submit("chaos", self._image, args=args, idempotency_key=key)
                except (ServerUnavailableError, StoreUnavailableError):
                    time.sleep(0.2)  # it is being started
                else:
                    self.accepted[amount] = run.id
            self._over.wait(chance.uniform(0.0, 0.3))


@contextmanager
def going(start_server: StartServer, state_dir: Path, **options: str) -> Iterator[tuple[Server, Client]]:
    """A server that is ready, and its client."""
    with start_server(state_dir, **options) as server:
        server.wait_until_ready()
        with server.client() as client:
            yield server, client


def kill_everything(server: Server) -> None:
    """SIGKILL to all processes, those that end the others included."""
    while found := server.processes():
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)  # there is no event for the end of other processes' children
    server.wait()


def signal_all(server: Server, number: signal.Signals) -> None:
    """Send a signal to all processes of a server."""
    for pid in server.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def check(client: Client, server: Server, image: str, accepted: dict[int, str]) -> Chaos:
    """Each accepted run ends once, with its own result, and there is no other run."""
    chaos = Chaos(server, client, image)
    chaos.amounts = {run_id: amount for amount, run_id in accepted.items()}
    assert len(chaos.amounts) == len(accepted)
    for run_id in chaos.amounts:
        chaos.ended[run_id] = chaos.end_of(run_id)
    return chaos


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_everything_is_killed_again_and_again(start_server: StartServer, tmp_path: Path) -> None:
    """At random moments, also of the start; clients submit with keys meanwhile. Each run ends once."""
    chance, state_dir = random.Random(11), tmp_path / "state"
    with going(start_server, state_dir) as (server, client):
        client.publish(scan(CHAOS)[0])
        image = client.upload(IMAGE).id
        token = server.token
        current = [client]
        submitters = Submitters(lambda: current[0], image, 3)
        submitters.__enter__()
        time.sleep(chance.uniform(0.0, 5.0))
        kill_everything(server)
    began = time.monotonic()
    for number in range(KILLS - 1):
        with start_server(state_dir) as server, server.client(token) as client:
            current[0] = client
            until = time.monotonic() + chance.uniform(1.0, 30.0)
            while time.monotonic() < until and server.process.poll() is None:
                time.sleep(0.1)
            print(
                f"kill {number + 2}: {len(submitters.accepted)} accepted, {time.monotonic() - began:.0f} s", flush=True
            )
            kill_everything(server)
    with start_server(state_dir) as server, server.client(token) as client:
        server.wait_until_ready()
        current[0] = client
        submitters.stop()
        chaos = check(client, server, image, submitters.accepted)
        chaos.kills = KILLS
        chaos.check()
    print(chaos.summary())


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_server_that_stood_still_goes_on_as_a_new_cluster(start_server: StartServer, tmp_path: Path) -> None:
    """Two servers on one bucket; one is stopped in the midst of submissions, and its runs are taken over."""
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedStore(tmp_path / "store", bucket="shared"))
        options = store_options(store.location)
        one, first = stack.enter_context(going(start_server, tmp_path / "one", **options))
        first.publish(scan(CHAOS)[0])
        image = first.upload(IMAGE).id
        two, second = stack.enter_context(going(start_server, tmp_path / "two", **options))
        with Submitters(lambda: first, image, 3) as at_first:
            time.sleep(3.0)
            signal_all(one, signal.SIGSTOP)
            before = dict(at_first.accepted)
            time.sleep(SLEEP_S)
            signal_all(one, signal.SIGCONT)
            while len(at_first.accepted) < len(before) + 20:  # it goes on
                time.sleep(0.1)
        for client, server in ((first, one), (second, two)):
            chaos = check(client, server, image, at_first.accepted)
            for run in chaos.ended.values():
                assert str(run.status) == "COMPLETED", run
            listed = [run.id for run in patiently(lambda client=client: list(client.runs(limit=10_000)))]  # type: ignore[misc]
            assert sorted(listed) == sorted(chaos.amounts)
            print(chaos.summary())
