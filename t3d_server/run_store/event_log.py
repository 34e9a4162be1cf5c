"""The log of runs in the object store: events are written in batches, each segment once, in one order for all clusters.

    runs/log/<seq>.jsonl            a segment
    runs/snapshots/<seq>.json       what the segments up to that one add up to

What is to be written while a segment is on its way goes with the next one. A number can be written once (`if_absent`):
a process whose number is taken reads what others have written, and tries the next one. So nobody is told of an event
that another process does not know of, whatever the clocks say.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from t3d_server.clock import Clock
from t3d_server.errors import ObjectNotFoundError, StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.run_store.events import Event, Header, Joined, Left, decode, encode, header_of
from t3d_server.run_store.records import FencedError
from t3d_server.run_store.segments import is_at_end, newest_snapshot, put_segment, seq_of
from t3d_server.run_store.state import State
from t3d_server.run_store.timings import Timings
from t3d_server.storage.base import ObjectStore, read
from t3d_server.storage.keys import RUN_EVENTS, segment_key

logger = logging.getLogger(__name__)

MAX_SEGMENT_BYTES = 4 * 1024**2
PARALLEL_READS = 16

T = TypeVar("T")


@dataclass(eq=False)
class Append:
    """An event on its way to the log.

    Attributes:
        event: the event; None for a heartbeat.
        line: the event as JSON.
        done: gets None once it is on record, or why it is known not to be.
        delayed: is set where the store does not answer: whether the event is stored may be unknown.
        sent: whether it is in a segment that was sent.
    """

    event: Event | None
    line: str
    done: asyncio.Future[None]
    delayed: asyncio.Future[None]
    sent: bool = False


class EventLog:
    """The log as one process of a cluster writes it.

    Args:
        store: where it is.
        cluster: id of the cluster.
        clock: the clock.
        executor: threads for calls of the store; None for those of the event loop.
        timings: how long what takes.
        fenced: is called when another process has taken this one's place.

    Attributes:
        state: the state as of the latest segment that is known.
        process: id of this process; another one each time that it joins.
        snapshot_seq: number of the latest snapshot that is known.
        unsnapped_bytes: how many bytes of segments came after that.
    """

    def __init__(
        self,
        store: ObjectStore,
        cluster: str,
        *,
        clock: Clock,
        executor: Executor | None,
        timings: Timings,
        fenced: Callable[[], None],
    ) -> None:
        self.state = State()
        self.process = ""
        self.snapshot_seq = self.unsnapped_bytes = 0
        self.cluster = cluster
        self._store = store
        self._clock = clock
        self._executor = executor
        self._timings = timings
        self._fenced = fenced
        self._waiting: deque[Append] = deque()
        self._wake = asyncio.Event()
        self._confirmed_s = -math.inf
        self._accepts = self._is_member = False
        self._writing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the log, and join it: from then on earlier processes of the cluster write no more.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        if self._writing is None:
            await self._load()
            self._writing = asyncio.get_running_loop().create_task(self._write())
        if not self._accepts:
            await self.join()

    async def join(self) -> None:
        """Become the process that writes for the cluster, also after another one has taken this one's place.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
        """
        if not self._accepts:
            self.process = new_id()
            self._accepts = True
            self._joining = self.append(Joined())
        await self.stored(self._joining)

    async def rejoin(self) -> None:
        """Join anew after another cluster has taken over; where another process has this cluster, it stays so.

        Raises:
            StoreUnavailableError: the store does not answer; to be called again.
            FencedError: another process writes for this cluster.
        """
        if not self._accepts:
            await self._load()
            if self.state.members.get(self.cluster) is not None:
                raise FencedError
        await self.join()

    async def leave(self) -> None:
        """Write what waits, and that this cluster may be taken over at once; then no more.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        left = self.append(Left())
        self._accepts = False  # nothing comes after it
        try:
            with suppress(FencedError):
                await self.stored(left)
        finally:
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.wait([self._writing])
            self._lose_place()

    def append(self, event: Event | None) -> Append:
        """Have an event written; None writes a heartbeat."""
        line = "" if event is None else event.model_dump_json()
        loop = asyncio.get_running_loop()
        append = Append(event, line, loop.create_future(), loop.create_future())
        append.done.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody has to wait for it
        if self._accepts:
            self._waiting.append(append)
            self._wake.set()
        else:
            append.done.set_exception(FencedError())
        return append

    async def stored(self, append: Append) -> None:
        """Return once an event is on record; cancelling this changes nothing.

        Raises:
            StoreUnavailableError: the store does not answer. The event will be stored when it does.
            FencedError, NotOwnedError, KeyHeldError, StaleError: the event does not count.
        """
        await asyncio.wait([append.done, append.delayed], return_when=asyncio.FIRST_COMPLETED)
        if not append.done.done() or append.done.cancelled():
            raise StoreUnavailableError("The object store does not answer; try again in a moment.")
        append.done.result()

    def retract(self, append: Append) -> bool:
        """Take back an event that was not sent yet; whether that was so."""
        if append.sent or append.done.done():
            return False
        self._waiting.remove(append)
        append.done.cancel()
        return True

    @property
    def is_confirmed(self) -> bool:
        """Whether the end of the log was seen lately: as far as clocks tell, nobody has taken this process's place."""
        return self._is_member and self._clock.seconds() - self._confirmed_s < self._timings.confirmed_s

    @property
    def is_member(self) -> bool:
        """Whether this process writes for its cluster, as far as it knows."""
        return self._is_member

    async def catch_up(self) -> None:
        """Read what others have written by now.

        Raises:
            StoreUnavailableError: the store does not answer.
            FencedError: another process has taken this one's place.
        """
        await self.stored(self.append(None))

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call something that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def _write(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._timings.heartbeat_s):  # Python 3.11's `wait_for` may lose a cancel()
                    await self._wake.wait()
            except TimeoutError:
                if self._accepts:
                    self.append(None)
            self._wake.clear()
            while self._waiting:
                try:
                    await self._commit()
                except FencedError:
                    logger.warning("another process has taken over the runs of cluster %s", self.cluster)
                    self._lose_place()
                    self._fenced()
                except Exception:  # such as an event of a newer version: it is tried again, and nothing is answered
                    logger.exception("the log of runs cannot be written")
                    _delay(self._waiting)
                    await asyncio.sleep(self._timings.store_retry_s)

    async def _commit(self) -> None:
        """Write what waits as one segment."""
        batch = self._next_batch()
        try:
            await self._commit_batch(batch)
        except BaseException:
            self._waiting.extendleft(append for append in reversed(batch) if not append.done.done())
            raise

    async def _commit_batch(self, batch: list[Append]) -> None:
        header = Header(cluster=self.cluster, process=self.process, batch=new_id(), time=self._clock.now())
        segment = encode(header, [append.line for append in batch if append.event is not None])
        contended = False
        while True:
            self._require_place()  # it may have been lost in what was read before the store was away
            began_s = self._clock.seconds()
            try:
                won = await self.in_thread(put_segment, self._store, self.state.seq + 1, header.batch, segment)
                if won and (self._is_member or await self.in_thread(is_at_end, self._store, self.state.seq + 1)):
                    break
                contended = True
                await (self._load() if won else self._follow())
            except StoreUnavailableError as error:
                logger.warning("the log of runs cannot be written yet: %s", error)
                _delay([*batch, *self._waiting])
                await asyncio.sleep(self._timings.store_retry_s)
        took_s = self._clock.seconds() - began_s
        self._confirmed_s = began_s
        self._take_in(header, segment, batch)
        if contended:
            await asyncio.sleep(2 * took_s)  # whoever has lost has to read this segment first: it gets the next number

    def _next_batch(self) -> list[Append]:
        batch: list[Append] = []
        size = 0
        while self._waiting and size < MAX_SEGMENT_BYTES:
            append = self._waiting.popleft()
            if not append.done.cancelled():
                append.sent = True
                size += len(append.line)
                batch.append(append)
        return batch

    async def _load(self) -> None:
        """Read the state: the newest snapshot, and the segments after it."""
        tried = ""
        while True:
            key, content = await self.in_thread(newest_snapshot, self._store) or ("none", None)
            self.state = State() if content is None else await self.in_thread(State.load, content)
            self.snapshot_seq, self.unsnapped_bytes = self.state.seq, 0
            try:
                return await self._read_on()
            except (FencedError, ObjectNotFoundError) as error:
                if key == tried:
                    message = f"The log of runs lacks {segment_key(self.state.seq + 1)}: restore the bucket."
                    raise StoreUnavailableError(message) from error
                tried = key  # a newer snapshot has come meanwhile, and segments have gone

    async def _follow(self) -> None:
        """Take in what others have written.

        Raises:
            FencedError: another process has taken this one's place.
        """
        try:
            await self._read_on()
        except ObjectNotFoundError as error:
            raise FencedError from error
        self._require_place()

    async def _read_on(self) -> None:
        """Read the segments after the latest one that is known.

        Raises:
            FencedError, ObjectNotFoundError: they were removed. So far behind is only a process that was fenced.
        """
        stats = await self.in_thread(
            lambda: list(self._store.list(RUN_EVENTS, start_after=segment_key(self.state.seq)))
        )
        keys = [stat.key for stat in stats]
        for at in range(0, len(keys), PARALLEL_READS):
            some = keys[at : at + PARALLEL_READS]
            segments = await asyncio.gather(*(self.in_thread(read, self._store, key) for key in some))
            for key, segment in zip(some, segments, strict=True):
                if seq_of(key) != self.state.seq + 1:
                    raise FencedError
                self._take_in(header_of(segment), segment, [])

    def _take_in(self, header: Header, segment: bytes, batch: list[Append]) -> None:
        events = [append.event for append in batch if append.event is not None] if batch else decode(segment)[1]
        results = self.state.apply(header, events)
        self.unsnapped_bytes += len(segment)
        outcomes = iter(results)
        for append in batch:
            result = next(outcomes) if append.event is not None else None
            if isinstance(append.event, Joined):
                self._is_member = True
            if not append.done.done():
                append.done.set_result(None) if result is None else append.done.set_exception(result)

    def _require_place(self) -> None:
        member = self.state.members.get(self.cluster)
        if self._is_member and (member is None or member.process != self.process):
            raise FencedError

    def _lose_place(self) -> None:
        self._accepts = self._is_member = False
        while self._waiting:
            append = self._waiting.popleft()
            if not append.done.done():
                append.done.set_exception(FencedError())


def _delay(appends: Iterable[Append]) -> None:
    for append in appends:
        if not append.delayed.done():
            append.delayed.set_result(None)
