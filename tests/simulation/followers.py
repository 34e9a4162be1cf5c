"""Clients that follow a run by server-sent events, lose the connection, and go on where they were."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from t3d_server.api.events import END, last_seen, stream_events
from t3d_server.errors import ExpiredError, NotFoundError
from t3d_server.models import LogLine, Run
from tests.simulation.submitted import Submitted

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

WAY_S = 0.003
CONNECTION_S = 60.0


async def follow(world: World, run: Submitted) -> None:
    """Follow a run to its end, by as many connections as it takes."""
    while not world.is_over:
        living = world.living()
        cluster = run.cluster if not run.cluster.is_dead else world.rngs["clients"].choice(living) if living else None
        if cluster is None or not cluster.router.is_up:
            await asyncio.sleep(0.5)
        elif await _Connection(world, run, cluster).listen():
            return
        else:
            await asyncio.sleep(0.2)


class _Connection:
    """One request for the events of a run."""

    def __init__(self, world: World, run: Submitted, cluster: Cluster) -> None:
        self._world = world
        self._run = run
        self._cluster = cluster
        self._router = cluster.router
        self._process = cluster.router.process
        self._events: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def listen(self) -> bool:
        """Take in events; whether there will be no more."""
        world, rng = self._world, self._world.rngs["clients"]
        asked_s = world.loop.now_s
        world.loop.later(WAY_S, lambda: self._tasks.append(self._process.spawn(self._send())), process=self._process)
        is_cut = rng.random() < 0.3 and world.is_faulty
        cut_s = asked_s + (rng.uniform(0.0, 8.0) if is_cut else CONNECTION_S)
        try:
            while world.loop.now_s < cut_s and self._process.alive:
                try:
                    async with asyncio.timeout(min(cut_s - world.loop.now_s, 2.0)):
                        event = await self._events.get()
                except TimeoutError:
                    continue
                if isinstance(event, ExpiredError):
                    return True
                if isinstance(event, NotFoundError):
                    world.observed.unknown(self._run, self._cluster, "events", event)
                    await asyncio.sleep(1.0)
                if event is None or isinstance(event, Exception):
                    return False
                if self._take_in(event, asked_s):
                    return True
            return False
        finally:
            for task in self._tasks:
                world.loop.later(0.0, task.cancel, process=self._process)

    def _take_in(self, event: bytes, asked_s: float) -> bool:
        """One event; whether it is the last one."""
        lines = [line for line in event.decode().splitlines() if ": " in line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        match fields.get("event"):
            case "log":
                line = LogLine.model_validate_json(fields["data"])
                self._world.observed.followed(self._run, int(fields["id"]), line.message)
            case "run":
                answer = Run.model_validate_json(fields["data"])
                self._world.observed.saw(self._run, answer, self._cluster, "events", asked_s)
                self._run.was_followed = fields.get("id") == END
        return self._run.was_followed

    async def _send(self) -> None:
        """What the router does, in its process."""
        loop, service = self._world.loop, self._router.service
        try:
            await service.run(self._run.id)
            async for event in stream_events(service.feeds, self._run.id, self._since()):
                loop.later(WAY_S, self._events.put_nowait, event)
        except asyncio.CancelledError:
            loop.later(WAY_S, self._events.put_nowait, None)
        except Exception as error:
            loop.later(WAY_S, self._events.put_nowait, error)

    def _since(self) -> datetime | None:
        return last_seen(str(self._run.events[-1][0])) if self._run.events else None
