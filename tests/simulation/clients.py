"""Clients: they upload, submit, repeat, wait, cancel, list and remove."""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from t3d_server.api.bodies import Draft
from t3d_server.api.service import Service
from t3d_server.errors import (
    AlgorithmNotFoundError,
    DatasetNotFoundError,
    ExpiredError,
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    ServerUnavailableError,
    StoreUnavailableError,
    T3dError,
    VersionNotFoundError,
)
from t3d_server.ids import new_id
from t3d_server.models import Run
from tests.simulation.followers import follow
from tests.simulation.network import ConnectionBrokenError, request
from tests.simulation.observed import KEPT_S
from tests.simulation.submitted import Submitted

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import World

BEGIN_S = 4.0
AGAIN = (ConnectionBrokenError, StoreUnavailableError, ServerUnavailableError)
"""What clients repeat a request after."""
BURST = 8


def draw_spec(rng: random.Random) -> dict[str, Any]:
    """What the author's code does in a run."""
    draw, posts = rng.random(), rng.choice([0, 1, 2])
    return {
        "for_s": rng.choice([0.0, 0.05, 0.15, 0.25, 1.0, 3.0, 6.0]),
        "steps": rng.choice([1, 2, 5, 10]),
        "lines": rng.choice([0, 0, 1, 2]),
        "calls_back": rng.random() < 0.7,
        "early": rng.random() < 0.3,
        "posts": posts,
        "keeps": posts + 1 if rng.random() < 0.8 else rng.randint(0, posts + 1),
        "stuck": draw < 0.06,
        "raises": 0.06 <= draw < 0.12,
        "dies": rng.choice([1, 2, 5]) if 0.12 <= draw < 0.18 else 0,
    }


class Clients:
    """All clients of a simulation.

    Args:
        world: the simulation.

    Attributes:
        tasks: what they do.
        submitting: those of the tasks that submit.
    """

    def __init__(self, world: World) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.submitting: list[asyncio.Task[None]] = []
        self._world = world
        self._rng = world.rngs["clients"]

    def start(self) -> None:
        """Have them begin."""
        rng, plan = self._rng, self._world.plan
        end_s = BEGIN_S + plan.busy_s
        for number in range(plan.submissions):
            self.submitting.append(self._later(rng.uniform(BEGIN_S, end_s), self._submit(number)))
        if rng.random() < 0.5:  # a burst, for the order and the bounds of queues
            at_s = rng.uniform(BEGIN_S, end_s)
            for number in range(BURST):
                submit = self._submit(1000 + number, algorithm="single")
                self.submitting.append(self._later(at_s + 0.3 * number, submit))
        for _ in range(2):
            self._later(BEGIN_S, self._list(end_s))
        if plan.removes:
            self._later(rng.uniform(2 * BEGIN_S, end_s), self._remove())

    def _later(self, after_s: float, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def wait() -> None:
            await asyncio.sleep(after_s)
            await work

        task: asyncio.Task[None] = self._world.loop.create_task(wait(), context=contextvars.Context())
        self.tasks.append(task)
        return task

    async def _request(self, cluster: Cluster, operation: Callable[[Service], Awaitable[Any]]) -> Any:
        return await request(self._world, cluster, operation)

    async def _any_cluster(self) -> Cluster:
        while not (living := self._world.living()):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.5)
        return self._rng.choice(living)

    async def _upload(self, cluster: Cluster) -> str:
        async def add(service: Service) -> str:
            return (await service.add({"value": 1})).id

        while True:
            try:
                dataset_id: str = await self._request(cluster, add)
                return dataset_id
            except (ConnectionBrokenError, T3dError):
                await asyncio.sleep(0.5)
                if cluster.is_dead:
                    cluster = await self._any_cluster()

    async def _submit(self, number: int, algorithm: str | None = None) -> None:
        rng, world = self._rng, self._world
        cluster = await self._any_cluster()
        if algorithm is None:
            names = ["quick", "quick", "shared", "single", "single", "doomed"] + ["broken"] * (number % 7 == 0)
            algorithm = rng.choice(names)
        if algorithm == "doomed" and not world.plan.removes:
            algorithm = "quick"
        inputs = [await self._upload(cluster) for _ in range(rng.choice([0, 1, 1, 2]))]
        key = f"key-{number}" if rng.random() < 0.6 else None
        spec = draw_spec(rng)
        body: dict[str, Any] = {"input_dataset_ids": inputs, "args": {"spec": json.dumps(spec)}}
        if spec["stuck"] or rng.random() < 0.2:
            body["timeout_s"] = rng.choice([2.0, 5.0])
        run = Submitted(algorithm, cluster, spec, key, inputs, world.loop.now_s)
        draft = Draft.of(body)
        accepted = await self._until_accepted(run, draft)
        if accepted is None:
            return
        world.observed.accepted(run, accepted)
        world.observed.saw(run, accepted, run.cluster, "submit", run.sent_s)
        if key is not None and rng.random() < 0.3:
            self._later(rng.uniform(0.0, 20.0), self._submit_again(run, draft))
        if rng.random() < 0.3:
            self._later(rng.choice([0.0, 0.01, 0.3, 2.0, 8.0]) * rng.random() * 2, self._cancel(run))
        if rng.random() < 0.5:
            self._later(0.0, follow(world, run))
        self._later(0.0, self._wait(run))

    async def _until_accepted(self, run: Submitted, draft: Draft) -> Run | None:
        """Submit until that is answered; None where the run is refused, or the client gives up."""
        rng, world = self._rng, self._world
        for _ in range(60):
            if run.cluster.is_dead:
                run.cluster = await self._any_cluster()
            run_id, wait_s, sent_s, cluster = new_id(), rng.choice([0.0, 0.0, 5.0]), world.loop.now_s, run.cluster
            run.sent_s = sent_s if run.key is None else run.sent_s
            try:
                accepted: Run = await self._request(
                    cluster,
                    lambda service: service.submit(  # awaited before the next one
                        run.algorithm,
                        draft,
                        wait_s=wait_s,  # noqa: B023
                        idempotency_key=run.key,
                        run_id=run_id,  # noqa: B023
                    ),
                )
                return accepted
            except QueueFullError:
                world.findings.count("429")
                await asyncio.sleep(rng.uniform(0.5, 5.0))
            except AGAIN as error:
                if run.key is None and wait_s == 0.0 and isinstance(error, StoreUnavailableError):
                    world.observed.unavailable(run_id, cluster, sent_s)
                await asyncio.sleep(rng.uniform(0.05, 2.0))
                if run.key is not None and rng.random() < 0.2:
                    run.cluster = await self._any_cluster()
            except T3dError as error:
                is_removed = world.plan.removes and isinstance(error, VersionNotFoundError | AlgorithmNotFoundError)
                is_expired = world.plan.expires and isinstance(error, ExpiredError | DatasetNotFoundError)
                is_both = world.plan.removes and world.plan.expires and isinstance(error, InvalidRequestError)
                if not (is_removed or is_expired or is_both):
                    world.observed.refused(run, error)
                return None
        world.findings.count("gave up to submit")
        return None

    async def _submit_again(self, run: Submitted, draft: Draft) -> None:
        """The same with the same key, perhaps at another cluster, perhaps long after."""
        world, cluster, asked_s = self._world, await self._any_cluster(), self._world.loop.now_s
        try:
            again = await self._request(
                cluster, lambda service: service.submit(run.algorithm, draft, idempotency_key=run.key)
            )
        except (*AGAIN, QueueFullError, ExpiredError, VersionNotFoundError, AlgorithmNotFoundError):
            return
        except T3dError as error:
            if not world.plan.expires:
                text = f"{run.id}: the same request with its key was refused: {error!r}"
                world.findings.violation("key", text)
            return
        if again.id == run.id:
            world.observed.saw(run, again, cluster, "submit again", asked_s)
        elif not (world.plan.expires and world.loop.now_s - run.accepted_s > KEPT_S):
            world.findings.violation("key", f"{run.key} stands for {run.id} and {again.id}")

    async def _cancel(self, run: Submitted) -> None:
        world = self._world
        for _ in range(60):
            cluster, asked_s = run.cluster, world.loop.now_s
            if cluster.is_dead:
                cluster = await self._any_cluster()
            run.cancel_sent_s = asked_s if run.cancel_sent_s < 0 else run.cancel_sent_s
            try:
                answer = await self._request(cluster, lambda service: service.cancel(run.id))
            except AGAIN:
                await asyncio.sleep(self._rng.uniform(0.1, 1.0))
                continue
            except ExpiredError:
                return
            except T3dError as error:
                world.observed.unknown(run, cluster, "cancel", error)
                return
            world.observed.saw(run, answer, cluster, "cancel", asked_s)
            if answer.cancel_requested or answer.status.ended:
                world.observed.cancelled(run, answer)
                return
            if cluster is run.cluster and not world.record.is_disturbed(cluster.id, asked_s - 60.0):
                world.findings.count("a cancellation had no effect")
            await asyncio.sleep(1.0)

    async def _wait(self, run: Submitted) -> None:
        world, rng = self._world, self._rng
        while not world.is_over:
            cluster = run.cluster
            if cluster.is_dead or rng.random() < 0.1:
                cluster = await self._any_cluster()
            wait_s, asked_s = rng.choice([0.0, 1.0, 10.0]), world.loop.now_s
            try:
                found = await self._request(cluster, lambda service: service.run(run.id, wait_s))  # noqa: B023
            except AGAIN:
                await asyncio.sleep(0.5)
                continue
            except ExpiredError:
                return
            except NotFoundError as error:
                world.observed.unknown(run, cluster, "get", error)
                await asyncio.sleep(1.0)
                continue
            world.observed.saw(run, found, cluster, "get", asked_s)
            if found.status.ended and rng.random() < 0.5:
                return
            await asyncio.sleep(rng.choice([0.05, 0.5, 3.0]))

    async def _list(self, until_s: float) -> None:
        world, rng = self._world, self._rng
        while world.loop.now_s < until_s:
            await asyncio.sleep(rng.uniform(0.3, 5.0))
            cluster, began_s = await self._any_cluster(), world.loop.now_s
            expected = world.observed.expected_in_list(cluster)
            found, cursor = list[Run](), None
            try:
                while True:
                    page = await self._request(
                        cluster,
                        lambda service: service.list_runs(limit=7, cursor=cursor),  # noqa: B023
                    )
                    for answer in page.runs:
                        if (run := world.observed.runs.get(answer.id)) is not None:
                            world.observed.saw(run, answer, cluster, "list", began_s)
                    found += page.runs
                    cursor = page.next_cursor
                    if cursor is None:
                        break
            except (ConnectionBrokenError, T3dError):
                continue
            world.observed.listed(cluster, expected, found, began_s)

    async def _remove(self) -> None:
        world = self._world
        for _ in range(30):
            cluster, cancels = await self._any_cluster(), self._rng.random() < 0.5
            try:
                await self._request(
                    cluster,
                    lambda service: service.remove("doomed", "1.0.0", cancel_runs=cancels),  # noqa: B023
                )
            except (VersionNotFoundError, AlgorithmNotFoundError):
                return
            except (ConnectionBrokenError, T3dError):
                if cluster.is_dead or not world.is_faulty:
                    return
                await asyncio.sleep(1.0)
                continue
            world.observed.version_removed(cluster, "doomed")
            return
