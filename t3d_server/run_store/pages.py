"""Pages: some thousand ended runs in one immutable object, of which single ones are read by ranges.

    runs/pages/<name>.jsonl         its index, one line; then its runs, one a line

The directory of pages (`events.PageInfo`) has of each the range of its ids, how many runs of each algorithm and status
there are, and the length of the index: a look-up reads one index, which is kept, and the range of the run.

Runs of one algorithm and status lie together, newest first, and the rarest come first: these are read with the index,
so that a listing of what is rare takes one request a page.
"""

from __future__ import annotations

import base64
import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from pydantic import TypeAdapter

from t3d_server.ids import new_id
from t3d_server.models import RunStatus
from t3d_server.run_store.events import PageInfo
from t3d_server.run_store.key_index import fingerprint
from t3d_server.run_store.records import StoredRun
from t3d_server.storage.base import ObjectStore
from t3d_server.storage.keys import page_key

INDEXES_KEPT = 64
"""Indexes of pages in memory; one has about 200 kB, with the head."""
HEAD_BYTES = 64 * 1024
"""So much of the runs is read and kept with the index."""
MAX_PAGES_A_LOOK = 32
"""Most pages that are looked at for one page of a listing."""
MAX_GAP_BYTES = 64 * 1024
"""Ranges that are closer are read with one request."""
MAX_RANGES = 3
"""If there are more ranges in a page, all that is between them is read with one request,"""
MAX_SPAN_BYTES = 4 * 1024**2
"""unless it is more than this."""


class Row(NamedTuple):
    """Where a run is in a page.

    Attributes:
        id: its id.
        algorithm: what was run.
        status: how it ended.
        offset: where its line begins, after the index, in bytes.
        length: length of the line in bytes.
    """

    id: str
    algorithm: str
    status: RunStatus
    offset: int
    length: int


class Group(NamedTuple):
    """What the index of a page has of the runs of one algorithm and status, which follow those of the group before.

    Attributes:
        algorithm: what was run.
        status: how they ended.
        ids: their ids, newest first.
        lengths: the length of the line of each in bytes.
    """

    algorithm: str
    status: RunStatus
    ids: list[str]
    lengths: list[int]


class _Kept(NamedTuple):
    """The index of a page, and the first bytes of its runs."""

    groups: list[Group]
    head: bytes


_INDEX: TypeAdapter[list[Group]] = TypeAdapter(list[Group])


def write_page(store: ObjectStore, runs: Iterable[StoredRun]) -> PageInfo:
    """Store ended runs as a page; nobody knows of it until the directory does.

    Raises:
        StoreUnavailableError: it may not be stored.
    """
    ordered = sorted(runs, key=lambda stored: stored.run.id, reverse=True)
    kinds: dict[tuple[str, RunStatus], list[StoredRun]] = {}
    for stored in ordered:
        kinds.setdefault((stored.run.algorithm, stored.run.status), []).append(stored)
    rarest_first = sorted(kinds.items(), key=lambda kind: (len(kind[1]), kind[0]))
    groups, lines = list[Group](), list[bytes]()
    for (algorithm, status), of_kind in rarest_first:
        written = [stored.model_dump_json().encode() + b"\n" for stored in of_kind]
        groups.append(Group(algorithm, status, [stored.run.id for stored in of_kind], list(map(len, written))))
        lines += written
    index = _INDEX.dump_json(groups) + b"\n"
    keys = (fingerprint(stored.key) for _, of_kind in rarest_first for stored in of_kind)
    page = PageInfo(
        name=new_id(),
        first=ordered[-1].run.id,
        last=ordered[0].run.id,
        index_bytes=len(index),
        counts={f"{group.algorithm} {group.status}": len(group.ids) for group in groups},
        keys=base64.b64encode(b"".join(keys)).decode(),
        logs=any(stored.lines for stored in ordered),
    )
    store.put(page_key(page.name), b"".join([index, *lines]))
    return page


class PageReader:
    """Reads pages; safe to use from several threads.

    Args:
        store: where they are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._indexes: OrderedDict[str, _Kept] = OrderedDict()

    def index(self, page: PageInfo, algorithm: str | None = None, status: RunStatus | None = None) -> list[Row]:
        """What is in a page, in the order in which it lies there.

        Args:
            page: the page.
            algorithm: only runs of this one.
            status: only runs that ended so.

        Raises:
            ObjectNotFoundError: the page was removed.
        """
        rows, offset = list[Row](), 0
        for group in self._keep(page).groups:
            if algorithm in (None, group.algorithm) and status in (None, group.status):
                offsets = accumulate(group.lengths, initial=offset)
                for run_id, length, at in zip(group.ids, group.lengths, offsets, strict=False):
                    rows.append(Row(run_id, group.algorithm, group.status, at, length))
            offset += sum(group.lengths)
        return rows

    def _keep(self, page: PageInfo) -> _Kept:
        with self._lock:
            if page.name in self._indexes:
                self._indexes.move_to_end(page.name)
                return self._indexes[page.name]
        content = b"".join(self._store.get(page_key(page.name), offset=0, length=page.index_bytes + HEAD_BYTES))
        kept = _Kept(_INDEX.validate_json(content[: page.index_bytes]), content[page.index_bytes :])
        with self._lock:
            self._indexes[page.name] = kept
            while len(self._indexes) > INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return kept

    def find(self, pages: Iterable[PageInfo], run_id: str) -> StoredRun | None:
        """A run by its id, if it is in one of these pages."""
        for page in pages:
            if page.first <= run_id <= page.last:
                for row in self.index(page):
                    if row.id == run_id:
                        return self.read(page, [row])[0]
        return None

    def holder(self, pages: Iterable[PageInfo], key: str) -> StoredRun | None:
        """The run that was accepted with an idempotency key, by the hash of that, if it is in one of these pages."""
        wanted = fingerprint(key)
        for page in pages:
            keys = base64.b64decode(page.keys)
            for at in range(0, len(keys), 8):
                if keys[at : at + 8] == wanted:
                    stored = self.read(page, [self.index(page)[at // 8]])[0]
                    if stored.key == key:
                        return stored
        return None

    def read(self, page: PageInfo, rows: Sequence[Row]) -> list[StoredRun]:
        """Runs of a page; those that lie close together are read with one request."""
        head, found = self._keep(page).head, dict[str, StoredRun]()

        def take(rows: Iterable[Row], content: bytes, first: int) -> None:
            for row in rows:
                line = content[row.offset - first : row.offset - first + row.length]
                found[row.id] = StoredRun.model_validate_json(line)

        take((row for row in rows if row.offset + row.length <= len(head)), head, 0)
        for near in _ranges(sorted((row for row in rows if row.id not in found), key=lambda row: row.offset)):
            first, end = near[0].offset, near[-1].offset + near[-1].length
            chunks = self._store.get(page_key(page.name), offset=page.index_bytes + first, length=end - first)
            take(near, b"".join(chunks), first)
        return [found[row.id] for row in rows]

    def newest(
        self,
        pages: Collection[PageInfo],
        *,
        limit: int,
        before: str | None,
        algorithm: str | None,
        status: RunStatus | None,
    ) -> tuple[list[tuple[PageInfo, Row]], bool]:
        """The newest runs in pages.

        Args:
            pages: the pages.
            limit: most runs.
            before: only runs with smaller ids.
            algorithm: only runs of this one.
            status: only runs that ended so.

        Returns:
            The runs, newest first, and whether there may be older ones: some pages are looked at, not all.
        """
        kinds = {kind for page in pages for kind in page.counts if _fits(kind, algorithm, status)}
        fitting = [
            page for page in pages if not kinds.isdisjoint(page.counts) and (before is None or page.first < before)
        ]
        fitting.sort(key=lambda page: page.last, reverse=True)
        found: list[tuple[PageInfo, Row]] = []
        held: list[tuple[str, PageInfo, Row]] = []  # not newer than what the next page may have; the newest last
        for number, page in enumerate(fitting):
            if len(found) >= limit or (found and number >= MAX_PAGES_A_LOOK):
                return found[:limit], True
            held += [
                (row.id, page, row) for row in self.index(page, algorithm, status) if before is None or row.id < before
            ]
            held.sort(key=lambda item: item[0])
            next_last = fitting[number + 1].last if number + 1 < len(fitting) else ""
            while held and held[-1][0] > next_last:
                found.append(held.pop()[1:])
        return found[:limit], len(found) > limit


def _fits(kind: str, algorithm: str | None, status: RunStatus | None) -> bool:
    name, _, ended = kind.partition(" ")
    return algorithm in (None, name) and (status is None or ended == status)


def _ranges(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in the order of their offsets, in groups each of which is read with one request."""
    groups: list[list[Row]] = []
    end = -math.inf
    for row in rows:
        if row.offset - end > MAX_GAP_BYTES:
            groups.append([])
        groups[-1].append(row)
        end = row.offset + row.length
    if len(groups) > MAX_RANGES and end - rows[0].offset <= MAX_SPAN_BYTES:
        return [list(rows)]
    return groups
