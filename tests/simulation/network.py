"""The network between clients and routers, which loses requests and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from t3d_server.api.service import Service

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

TIMEOUT_S = 100.0


class ConnectionBrokenError(Exception):
    """A client got no answer."""


async def request(world: World, cluster: Cluster, operation: Callable[[Service], Awaitable[Any]]) -> Any:
    """One request of a client.

    Args:
        world: the simulation.
        cluster: who is asked.
        operation: what is asked.

    Returns:
        The answer.

    Raises:
        ConnectionBrokenError: none came.
        Exception: the answer is an error.
    """
    rng, loop, router = world.rngs["http"], world.loop, cluster.router
    await asyncio.sleep(rng.uniform(0.0005, 0.01))
    if not router.is_up or rng.random() < world.faults.http_lost / 2:
        await asyncio.sleep(0.05)
        raise ConnectionBrokenError("refused")
    future: asyncio.Future[Any] = loop.create_future()
    future.add_done_callback(lambda future: future.cancelled() or future.exception())
    router.requests[future] = None
    service, process = router.service, router.process
    tasks: list[asyncio.Task[None]] = []

    async def handle() -> None:
        result: Any = None
        error: Exception | None = None
        try:
            result = await operation(service)
        except asyncio.CancelledError:
            return
        except Exception as raised:
            error = raised
        loop.later(rng.uniform(0.0005, 0.01), answer, result, error)

    def answer(result: Any, error: Exception | None) -> None:
        router.requests.pop(future, None)
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    loop.later(0.0, lambda: tasks.append(process.spawn(handle())), process=process)
    if rng.random() < world.faults.http_lost:
        await asyncio.wait([future], timeout=rng.choice([0.01, 0.1, 1.0, 5.0]))
        if rng.random() < 0.5 and tasks:
            loop.later(0.0, tasks[0].cancel, process=process)  # the router notices that its client has gone
        future.cancel()
        router.requests.pop(future, None)
        raise ConnectionBrokenError("the answer was lost")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await future
    except ConnectionError as error:
        raise ConnectionBrokenError(str(error)) from error
    except TimeoutError as error:
        raise ConnectionBrokenError("no answer") from error
