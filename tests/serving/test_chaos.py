"""Every accepted run ends, once, with its own result, whatever is killed in between."""

from __future__ import annotations

import random
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from t3d_server.models import RunStatus
from t3d_server.packages.folder import scan
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3ObjectStore
from tests.recorded import recorded
from tests.serving.chaos import IMAGE, PROCESSES, Chaos

if TYPE_CHECKING:
    from tests.conftest import Server

    StartServer = Callable[..., AbstractContextManager[Server]]

CHAOS = Path(__file__).parents[1] / "packages" / "chaos"


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def maltreated(start_server: StartServer, state_dir: Path) -> Iterator[Chaos]:
    """A server that serves `chaos`."""
    with start_server(state_dir) as server:
        server.wait_until_ready()
        with server.client() as client:
            client.publish(scan(CHAOS)[0])
            yield Chaos(server, client, client.upload(IMAGE).id)


@pytest.mark.timeout(480)
def test_runs_survive_the_death_of_every_process(
    start_server: StartServer, tmp_path: Path, write_algorithm: Callable[..., Path]
) -> None:
    """Of single ones first, then of several at once, then of the whole server; and data and algorithms with them.

    Ctrl-C leaves no process, and the runs that were open to the next server.
    """
    with maltreated(start_server, tmp_path / "state") as chaos:
        first, client = chaos.server, chaos.client
        assert stat.S_IMODE((first.state_dir / "token").stat().st_mode) == 0o600
        client.publish(scan(write_algorithm("idle"))[0])
        info, token = client.info(chaos.image), first.token
        chaos.submit([2.0, 2.0, 0.1])
        chaos.kill("coordinator")
        chaos.submit([2.0, 2.0, 0.1])
        chaos.kill("replica")
        chaos.submit([1.0, 1.0, 0.1])
        chaos.kill("router", "haproxy", "controller", "store", "coordinator")
        chaos.check()
        log = client.log(next(iter(chaos.ended)))
        chaos.submit([2.0, 2.0, 0.1, 0.1])
        first.stop(signal.SIGKILL)
        first.wait_until_gone()
        assert not is_open(first.port)

    with start_server(tmp_path / "state") as second, second.client(token) as client:
        second.wait_until_ready()
        chaos.server, chaos.client = second, client
        assert second.token == token
        assert client.info(chaos.image) == info
        assert client.log(next(iter(chaos.ended))) == log
        # Only `chaos`, which is to be kept warm, has replicas before somebody asks.
        cpu = second.applications()["idle-1.0.0"]["deployments"]["cpu"]
        assert (cpu["status"], cpu["replicas"]) == ("HEALTHY", [])
        chaos.check()
        held = client.submit("chaos", chaos.image, args={"seconds": 600.0})
        next(run for run in held.events() if run.progress > 0)
        second.stop(signal.SIGINT, group=True)
        second.wait_until_gone()
        assert "Traceback" not in second.output
        assert not (second.state_dir / "server.json").exists()

    with EmbeddedStore(tmp_path / "state" / "store") as store:
        state = recorded(S3ObjectStore(store.location))
    [stored] = state.open.values()
    assert (stored.run.id, stored.run.status) == (held.id, RunStatus.PENDING)
    assert state.members[stored.owner].left
    assert [(attempt.outcome, attempt.charged) for attempt in stored.run.attempt_history] == [("lost", False)]
    print(chaos.summary())


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_hundred_runs_in_a_storm(start_server: StartServer, tmp_path: Path) -> None:
    """Processes of all kinds die one after the other and together, the store stands still, the server is killed."""
    chance = random.Random(7)
    with maltreated(start_server, tmp_path / "state") as chaos:

        def submit() -> None:
            chaos.submit([chance.choice([0.0, 0.1, 0.5, 2.0, 6.0]) for _ in range(7)])

        several = [("coordinator", "replica"), ("router", "controller", "haproxy"), ("store", "coordinator")]
        for names in [*((name,) for name in PROCESSES), *several, tuple(PROCESSES)]:
            submit()
            chaos.kill(*names)
        submit()
        chaos.pause("store", 10.0)
        chaos.check()
        print("\n" + chaos.summary(), flush=True)
        chaos.submit([chance.choice([0.0, 1.0, 5.0]) for _ in range(20)])
        chaos.server.stop(signal.SIGKILL)
        chaos.server.wait_until_gone()
        with start_server(tmp_path / "state") as again:
            again.wait_until_ready()
            with again.client() as client:
                chaos.server, chaos.client = again, client
                chaos.kills += 1
                chaos.recover(time.monotonic())
                chaos.check()
    print(chaos.summary())
