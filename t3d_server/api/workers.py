"""Threads for blocking calls: the event loop never waits for the store or a disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A bounded pool of threads, beside the event loop's own.

    Args:
        threads: most calls at a time; the others wait.
    """

    def __init__(self, threads: int = 32) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="t3d-api")

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread. Cancelling this does not stop the function."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))

    async def iterate(self, source: Iterator[bytes]) -> AsyncGenerator[bytes]:
        """The items of a blocking iterator; the next one is fetched while the last one is sent."""
        lock = threading.Lock()

        def pull() -> bytes | None:
            with lock:
                return next(source, None)

        def close() -> None:
            with lock:
                if isinstance(source, Generator):
                    source.close()

        try:
            pending = self._pool.submit(pull)
            while (item := await asyncio.wrap_future(pending)) is not None:
                pending = self._pool.submit(pull)
                yield item
        finally:
            # Not awaited: a request that is being cancelled may not wait any more.
            self._pool.submit(close)
