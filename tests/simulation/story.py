"""One simulation from its beginning to its end."""

from __future__ import annotations

import gc
from collections.abc import Collection

from tests.simulation.clients import BEGIN_S, Clients
from tests.simulation.clocks import virtual_ids
from tests.simulation.final import Final
from tests.simulation.violations import place_of
from tests.simulation.world import World

FAULTS_BEGIN_S = 3.0
SETTLE_S = 420.0
"""So long after the last fault all runs have ended."""
REST_S = 25.0
EXPIRY_S = 150.0
ANSWERS_S = 30.0


def simulate(seed: int, *, clusters: int = 0, without: Collection[str] = (), traced: bool = False) -> World:
    """Simulate a seed.

    Args:
        seed: the seed.
        clusters: how many clusters; 0 leaves that to the seed.
        without: faults, and parts of plans, that are left out.
        traced: whether a trace is kept.

    Returns:
        The world at its end, with what was found.
    """
    gc.disable()
    world = World(seed, clusters=clusters, without=without, traced=traced)
    try:
        with virtual_ids(world.loop, world.rngs["ids"]), world.findings.of_logs():
            _run(world)
    finally:
        gc.enable()
    return world


def _run(world: World) -> None:
    loop, final, clients = world.loop, Final(world), Clients(world)
    for number in range(world.plan.clusters):
        loop.later(number * 2.0, world.start_cluster, "ABC"[number])
    loop.later(FAULTS_BEGIN_S, world.begin_faults)
    busy_until_s = BEGIN_S + world.plan.busy_s
    world.incidents.schedule(FAULTS_BEGIN_S, busy_until_s + 6.0)
    clients.start()
    loop.run(lambda: False, busy_until_s + 8.0)
    world.end_faults()
    if not world.living():
        world.start_cluster("Z")
    bound_s = loop.now_s + SETTLE_S
    loop.run(lambda: all(task.done() for task in clients.submitting) and final.is_settled(), bound_s)
    loop.run(lambda: False, loop.now_s + REST_S)
    world.is_over = True
    if world.plan.expires:
        loop.run(lambda: False, loop.now_s + EXPIRY_S)
    else:
        loop.run(lambda: all(task.done() for task in clients.tasks), loop.now_s + 130.0)
    final.check()
    for cluster in world.living():
        check = cluster.router.process.spawn(final.check_answers(cluster))
        if not loop.run(check.done, loop.now_s + ANSWERS_S):
            world.findings.violation("no-answer", f"{cluster.name} does not answer at the end")
    for task in clients.tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            world.findings.violation("client-failed", f"{type(error).__name__}: {error} ({place_of(error, 'tests/')})")
    for fault in loop.faults:
        world.findings.violation("error-in-loop", fault)
    for cluster in world.clusters:
        cluster.kill()
    loop.end()
