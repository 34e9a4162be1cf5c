"""A TCP proxy on loopback before an object store: it counts requests by method and folder, and can delay answers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from t3d_server.storage.s3 import S3Location

_CHUNK_BYTES = 1 << 18


class _Requests:
    """Finds the requests in what a client sends; bodies are skipped by their Content-Length."""

    def __init__(self, counts: Counter[tuple[str, str]]) -> None:
        self._counts = counts
        self._head = b""
        self._body_left = 0

    def feed(self, data: bytes) -> None:
        while data:
            skipped = min(self._body_left, len(data))
            self._body_left -= skipped
            head, found, rest = (self._head + data[skipped:]).partition(b"\r\n\r\n")
            if not found:
                self._head = head
                return
            self._head, data = b"", rest
            self._count(head.decode("latin-1"))

    def _count(self, head: str) -> None:
        request, *headers = head.split("\r\n")
        method, url, _ = request.split(" ", 2)
        named = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
        self._body_left = int(named.get("content-length", 0))
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query, keep_blank_values=True)
        key = unquote(path).partition("/")[2].partition("/")[2]
        if method == "GET" and not key:
            method, key = "LIST", query.get("prefix", [""])[0]
        elif method == "POST" and "delete" in query:
            method = "DELETE MANY"
        self._counts[method, key.rpartition("/")[0]] += 1


class StoreProxy:
    """The proxy, in a thread of this process while it is entered.

    Args:
        location: the store.
        delay_s: each answer comes so much later.
    """

    def __init__(self, location: S3Location, delay_s: float = 0.0) -> None:
        self.location = location
        self._host, _, port = location.endpoint.rpartition(":")
        self._port = int(port)
        self._delay_s = delay_s
        self._counts: Counter[tuple[str, str]] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def counts(self) -> Counter[tuple[str, str]]:
        """How many requests there were so far of each method in each folder."""
        return self._counts.copy()

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK_BYTES), self._loop
        )
        port = starting.result().sockets[0].getsockname()[1]
        self.location = replace(self.location, endpoint=f"127.0.0.1:{port}")
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        tasks = asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        store, to_store = await asyncio.open_connection(self._host, self._port, limit=_CHUNK_BYTES)
        requests = _Requests(self._counts)
        answers: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def forward() -> None:
            while data := await client.read(_CHUNK_BYTES):
                requests.feed(data)
                to_store.write(data)
                await to_store.drain()

        async def receive() -> None:
            while data := await store.read(_CHUNK_BYTES):
                answers.put_nowait((self._loop.time() + self._delay_s, data))
            answers.put_nowait((0.0, b""))

        async def answer() -> None:
            while (item := await answers.get())[1]:
                await asyncio.sleep(item[0] - self._loop.time())
                to_client.write(item[1])
                await to_client.drain()

        ways = [asyncio.ensure_future(way()) for way in (forward, receive, answer)]
        with suppress(asyncio.CancelledError, OSError):
            await asyncio.wait([ways[0], ways[2]], return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for writer in (to_client, to_store):
            writer.close()
