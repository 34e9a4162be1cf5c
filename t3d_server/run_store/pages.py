"""Pages: some thousand ended runs in one immutable object, of which single ones are read by ranges.

    runs/pages/<name>.jsonl         its index, one line; then its runs, newest first, one a line

The directory of pages (`events.PageInfo`) has of each the range of its ids, how many runs of each algorithm and status
there are, and the length of the index: a look-up reads one index, which is kept, and the range of the run.
"""

from __future__ import annotations

import base64
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence
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
"""Indexes of pages in memory; one has about 100 kB."""
MAX_PAGES_A_LOOK = 32
"""Most pages that are looked at for one page of a listing."""
MAX_GAP_BYTES = 64 * 1024
"""Ranges that are closer are read with one request."""


class Row(NamedTuple):
    """What the index of a page has of a run.

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


_INDEX: TypeAdapter[list[Row]] = TypeAdapter(list[Row])


def write_page(store: ObjectStore, runs: Iterable[StoredRun]) -> PageInfo:
    """Store ended runs as a page; nobody knows of it until the directory does.

    Raises:
        StoreUnavailableError: it may not be stored.
    """
    ordered = sorted(runs, key=lambda stored: stored.run.id, reverse=True)
    rows, lines, offset = list[Row](), list[bytes](), 0
    for stored in ordered:
        line = stored.model_dump_json().encode() + b"\n"
        rows.append(Row(stored.run.id, stored.run.algorithm, stored.run.status, offset, len(line)))
        lines.append(line)
        offset += len(line)
    index = _INDEX.dump_json(rows) + b"\n"
    page = PageInfo(
        name=new_id(),
        first=rows[-1].id,
        last=rows[0].id,
        index_bytes=len(index),
        counts=Counter(f"{row.algorithm} {row.status}" for row in rows),
        keys=base64.b64encode(b"".join(fingerprint(stored.key) for stored in ordered)).decode(),
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
        self._indexes: OrderedDict[str, list[Row]] = OrderedDict()

    def index(self, page: PageInfo) -> list[Row]:
        """What is in a page, newest first.

        Raises:
            ObjectNotFoundError: the page was removed.
        """
        with self._lock:
            if page.name in self._indexes:
                self._indexes.move_to_end(page.name)
                return self._indexes[page.name]
        content = b"".join(self._store.get(page_key(page.name), offset=0, length=page.index_bytes))
        index = _INDEX.validate_json(content)
        with self._lock:
            self._indexes[page.name] = index
            while len(self._indexes) > INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return index

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
        found: dict[str, StoredRun] = {}
        for near in _near(sorted(rows, key=lambda row: row.offset)):
            first, end = near[0].offset, near[-1].offset + near[-1].length
            chunks = self._store.get(page_key(page.name), offset=page.index_bytes + first, length=end - first)
            content = b"".join(chunks)
            for row in near:
                line = content[row.offset - first : row.offset - first + row.length]
                found[row.id] = StoredRun.model_validate_json(line)
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
                (row.id, page, row)
                for row in self.index(page)
                if (before is None or row.id < before) and _fits(f"{row.algorithm} {row.status}", algorithm, status)
            ]
            held.sort(key=lambda item: item[0])
            next_last = fitting[number + 1].last if number + 1 < len(fitting) else ""
            while held and held[-1][0] > next_last:
                found.append(held.pop()[1:])
        return found[:limit], len(found) > limit


def _fits(kind: str, algorithm: str | None, status: RunStatus | None) -> bool:
    name, _, ended = kind.partition(" ")
    return algorithm in (None, name) and (status is None or ended == status)


def _near(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """Rows in the order of their offsets, in groups without large gaps."""
    group: list[Row] = []
    for row in rows:
        if group and row.offset - (group[-1].offset + group[-1].length) > MAX_GAP_BYTES:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
