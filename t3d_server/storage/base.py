"""What the server needs of an object store: six methods over one bucket.

Implementations are safe to use from several threads and can be pickled (Ray ships them to replicas).
Keys are UTF-8 paths: `/` between names that are not empty, `.` or `..`, without backslashes; no key is the
folder of another. A put is atomic: readers see the whole object or none, and once it has returned the
object is stored. All methods block; async code calls them in a thread.

Every method raises `StoreUnavailableError` when the store cannot be reached or does not answer in time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol, runtime_checkable

from t3d_server.errors import ObjectNotFoundError


@dataclass(frozen=True)
class ObjectStat:
    """An object without its content.

    Attributes:
        key: its full key.
        size_bytes: its length in bytes.
        stored_at: when it was stored, by the store's clock; some tell it to the second only.
        etag: another one where the content is another.
    """

    key: str
    size_bytes: int
    stored_at: datetime
    etag: str


class ObjectStore(Protocol):
    """One bucket of an object store."""

    def prepare(self) -> None:
        """Make the bucket if it is missing, and see that an object really round-trips."""

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        """Store an object, replacing what is there.

        Args:
            key: where to store it.
            data: the content; a file is read from its position to its end, in bounded memory.
            if_absent: store only if the key is free; of several writers exactly one wins. Needs bytes
                or a seekable file, of at most 5 GiB.

        Raises:
            ObjectExistsError: `if_absent`, and the key is taken.
            StoreUnavailableError: whether the object is stored is then unknown.
        """

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        """Stream an object, or `length` bytes of it from `offset`, in chunks of bounded size.

        The object is opened before this returns, so that a missing key shows here and not in mid-stream.
        A range that reaches past the end is cut. Whoever stops early calls `close()` on the result,
        which frees the connection.

        Raises:
            ObjectNotFoundError: there is no such key.
            StoreUnavailableError: also from the iteration, when the stream breaks off; a short object is
                never taken for the whole.
        """

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object.

        Raises:
            ObjectNotFoundError: there is no such key.
        """

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix` and sorts after `start_after`.

        The keys of one folder come in key order. How folders interleave is up to the store, so
        `start_after` is for prefixes without folders below them.
        """

    def delete(self, *keys: str) -> None:
        """Remove objects, many with one request; a key that is not there is no error.

        Raises:
            StoreUnavailableError: some of them may still be there.
        """


@runtime_checkable
class Presigner(Protocol):
    """What a store can do beside that, whose objects clients may reach without the server."""

    def presigned(self, method: Literal["GET", "PUT"], key: str, expires_s: int) -> str:
        """A URL by which whoever has it can read or replace one object for so long; nothing is asked of the store."""


def read(store: ObjectStore, key: str) -> bytes:
    """The whole content of a small object."""
    return b"".join(store.get(key))


def exists(store: ObjectStore, key: str) -> bool:
    """Whether the store holds `key`."""
    try:
        store.stat(key)
    except ObjectNotFoundError:
        return False
    return True
