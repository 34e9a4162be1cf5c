"""The router's own part in a run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from t3d_server.serving.router import Router
from tests.runs.bench import in_loop


class Service:
    """Accepts a run, and never comes to answer."""

    def __init__(self) -> None:
        self.submitted: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: list[str] = []

    async def submit(self, algorithm: str, draft: Any, *, run_id: str, **options: Any) -> None:
        await self.submitted.put(run_id)
        await asyncio.Event().wait()

    async def cancel(self, run_id: str) -> None:
        self.cancelled.append(run_id)


@in_loop
async def test_who_cancels_the_call_cancels_a_run_that_is_just_being_accepted() -> None:
    router, service = Router.__new__(Router), Service()
    router._service = service  # type: ignore[assignment]
    call = asyncio.create_task(router.run("blur", ["a"]))
    run_id = await service.submitted.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert service.cancelled == [run_id]
