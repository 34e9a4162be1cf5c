"""An object store behind the S3 API, through the `minio` SDK: the only file that knows S3."""

from __future__ import annotations

import functools
import io
import logging
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, BinaryIO, Literal
from xml.etree.ElementTree import ParseError

import urllib3.exceptions
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.credentials.credentials import Credentials
from minio.datatypes import Object
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.helpers import BaseURL, check_object_name
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule
from minio.signer import sign_v4_s3
from minio.time import to_amz_date
from urllib3.response import BaseHTTPResponse

from t3d_server.errors import ObjectExistsError, ObjectNotFoundError, StoreUnavailableError
from t3d_server.storage.base import ObjectStat, read

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_DELETES_A_REQUEST = 1000  # as many as S3 takes
_SINGLE_PUT_BYTES = 5 << 30  # S3 takes no more in one request
_RETRIES = 3
_UNSIGNED = "UNSIGNED-PAYLOAD"  # hashing the body first would read it twice
_BACKOFF_FACTOR = 0.1  # three retries wait 0, 0.2 and 0.4 s
_STORED_BYTES_PER_S = 16 << 20  # the least that a store writes to its disks, after it has got the whole object


@dataclass(frozen=True)
class S3Location:
    """Where a bucket is, and who may use it.

    Attributes:
        endpoint: `host:port`, without a scheme.
        access_key: id of the credentials.
        secret_key: secret of the credentials; no representation shows it.
        bucket: name of the bucket.
        region: region that requests are signed for.
        secure: whether to speak HTTPS.
        public_endpoint: `host:port` under which clients reach the store; that of the server where empty.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    region: str = "us-east-1"
    secure: bool = True
    public_endpoint: str = ""


class _Retry(urllib3.Retry):
    """Tries again what failed at once; a store that was silent for a whole time-out is not waited for again.

    So a call takes little longer than one time-out, whatever the store does.
    """

    def increment(self, method: str | None = None, url: str | None = None, *args: Any, **kwargs: Any) -> _Retry:
        error = kwargs.get("error")
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
            raise error
        return super().increment(method, url, *args, **kwargs)


class S3ObjectStore:
    """One bucket of an S3 server; see `ObjectStore`.

    A pickled copy has its own connections to the same bucket.

    Args:
        location: the bucket and its credentials.
        pool_size: connections kept open for reuse; more are opened when more threads ask at once.
        connect_timeout_s: how long one attempt to connect may take, in seconds.
        read_timeout_s: how long the store may stay silent within a request, in seconds; after an object that was put,
            as much longer as it may take to write it to the disk.
    """

    def __init__(
        self,
        location: S3Location,
        *,
        pool_size: int = 32,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
    ) -> None:
        self.location = location
        self._rebuild = functools.partial(
            S3ObjectStore,
            location,
            pool_size=pool_size,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        self._timeout = functools.partial(urllib3.Timeout, connect=connect_timeout_s)
        self._read_timeout_s = read_timeout_s
        # Without `block`: a connection that a caller forgets costs a socket, never a deadlock.
        self._http = urllib3.PoolManager(
            maxsize=pool_size,
            block=False,
            blocksize=_CHUNK_BYTES,
            timeout=self._timeout(read=read_timeout_s),
            retries=_Retry(
                _RETRIES,
                read=1,
                backoff_factor=_BACKOFF_FACTOR,
                status_forcelist=(500, 502, 503, 504),
                raise_on_status=False,
                respect_retry_after_header=False,  # how long a call may take is for the caller to bound
            ),
        )
        self._base_url = BaseURL(f"{'https' if location.secure else 'http'}://{location.endpoint}", location.region)
        self._client = Minio(
            location.endpoint,
            location.access_key,
            location.secret_key,
            secure=location.secure,
            region=location.region,
            http_client=self._http,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return self._rebuild, ()

    def prepare(self) -> None:
        """Make the bucket if it is missing, and see that an object really round-trips.

        Logs a warning when the store takes no notice of `if_absent`.
        """
        bucket = self.location.bucket
        with self._translated():
            if not self._client.bucket_exists(bucket):
                try:
                    self._client.make_bucket(bucket, location=self.location.region)
                except S3Error as error:
                    if error.code != "BucketAlreadyOwnedByYou":  # by another process, just now
                        raise
        probe = f"probes/{uuid.uuid4()}"
        self.put(probe, b"probe")
        try:
            if read(self, probe) != b"probe":
                raise self._unavailable("does not return what was stored")
            self.put(probe, b"probe", if_absent=True)
            _log.warning(
                "The object store at %s ignores conditional puts (If-None-Match): "
                "only one t3d_server cluster may use the bucket %r.",
                self.location.endpoint,
                bucket,
            )
        except ObjectExistsError:
            pass
        finally:
            self.delete(probe)
        self._have_unfinished_uploads_removed()

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        """Store an object, replacing what is there; see `ObjectStore.put`."""
        stream = io.BytesIO(data) if isinstance(data, bytes | bytearray | memoryview) else data
        size = _size_bytes(stream)
        if size is not None and size <= _SINGLE_PUT_BYTES:
            self._put_whole(key, stream, size, if_absent=if_absent)
        elif if_absent:
            raise ValueError(f"{key!r}: if_absent needs a seekable file of at most {_SINGLE_PUT_BYTES} bytes.")
        else:
            with self._translated(key):
                # One part at a time bounds the memory; the SDK removes the parts when it fails.
                self._client.put_object(
                    self.location.bucket,
                    key,
                    stream,
                    length=-1 if size is None else size,
                    part_size=_PART_BYTES,
                    num_parallel_uploads=1,
                )

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes]:
        """Stream an object or a range of it; see `ObjectStore.get`."""
        if length == 0:  # S3 knows no empty range
            self.stat(key)
            return _nothing()
        try:
            with self._translated(key):
                response = self._client.get_object(self.location.bucket, key, offset, length or 0)
        except _RangeBehindEndError:
            return _nothing()
        chunks = self._chunks(key, response)
        next(chunks)  # a generator that never started would not run its `finally` when it is closed
        return chunks

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object; see `ObjectStore.stat`."""
        with self._translated(key):
            found = self._client.stat_object(self.location.bucket, key)
        return _stat(found)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
        """Every object under `prefix` after `start_after`, in key order; see `ObjectStore.list`."""
        with self._translated():
            for found in self._client.list_objects(
                self.location.bucket, prefix, recursive=True, start_after=start_after or None
            ):
                if found.object_name is not None:
                    yield _stat(found)

    def delete(self, *keys: str) -> None:
        """Remove objects; see `ObjectStore.delete`."""
        bucket, each = self.location.bucket, _DELETES_A_REQUEST
        for some in [keys[first : first + each] for first in range(0, len(keys), each)]:
            with self._translated(some[0]):
                if len(some) == 1:
                    self._client.remove_object(bucket, some[0])
                elif errors := [*self._client.remove_objects(bucket, map(DeleteObject, some))]:
                    raise StoreUnavailableError(f"{errors[0].name} could not be removed: {errors[0].message}")

    def presigned(self, method: Literal["GET", "PUT"], key: str, expires_s: int) -> str:
        """A URL for one object, under the endpoint that clients use; see `Presigner`."""
        location = self.location
        # The host is part of what is signed. With the region given, the SDK asks nobody.
        client = Minio(
            location.public_endpoint or location.endpoint,
            location.access_key,
            location.secret_key,
            secure=location.secure,
            region=location.region,
            http_client=self._http,
        )
        return str(client.get_presigned_url(method, location.bucket, key, expires=timedelta(seconds=expires_s)))

    def _have_unfinished_uploads_removed(self) -> None:
        """Parts of an upload whose process was killed are seen by the store alone: a rule of the bucket removes them.

        Rules that are there stay as they are: the SDK might not write them as they were.
        """
        bucket, days = self.location.bucket, AbortIncompleteMultipartUpload(days_after_initiation=1)
        rule = Rule(ENABLED, Filter(prefix=""), "t3d-unfinished-uploads", abort_incomplete_multipart_upload=days)
        try:
            with self._translated():
                if self._client.get_bucket_lifecycle(bucket) is None:
                    self._client.set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
        except (StoreUnavailableError, ValueError) as error:  # not every store has such rules, or lets us set them
            _log.info("Unfinished uploads stay in the bucket %r: %s", bucket, error)

    def _put_whole(self, key: str, stream: BinaryIO, size: int, *, if_absent: bool) -> None:
        """One PUT, streamed; the SDK's own takes neither a stream nor `If-None-Match`."""
        check_object_name(key)
        location = self.location
        url = self._base_url.build(method="PUT", region=location.region, bucket_name=location.bucket, object_name=key)
        now = datetime.now(UTC)
        headers = sign_v4_s3(
            method="PUT",
            url=url,
            region=location.region,
            headers={
                "Host": url.netloc,
                "Content-Type": "application/octet-stream",
                "x-amz-content-sha256": _UNSIGNED,
                "x-amz-date": to_amz_date(now),
            },
            credentials=Credentials(location.access_key, location.secret_key),
            content_sha256=_UNSIGNED,
            date=now,
        )
        headers["Content-Length"] = str(size)
        retries = None
        if if_absent:
            headers["If-None-Match"] = "*"
            # After a lost answer a second try would meet the first one's object and take it for another's.
            retries = _Retry(_RETRIES, read=0, other=0, backoff_factor=_BACKOFF_FACTOR)
        timeout = self._timeout(read=round(self._read_timeout_s + size / _STORED_BYTES_PER_S, 1))
        with self._translated(key):
            response = self._http.urlopen(
                "PUT", url.geturl(), body=stream, headers=headers, retries=retries, timeout=timeout
            )
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise S3Error.fromxml(response)

    def _chunks(self, key: str, response: BaseHTTPResponse) -> Generator[bytes]:
        try:
            yield b""
            with self._translated(key):
                # urllib3 raises when the body ends before its Content-Length.
                yield from response.stream(_CHUNK_BYTES, decode_content=False)
        finally:
            response.close()
            response.release_conn()

    @contextmanager
    def _translated(self, key: str = "") -> Iterator[None]:
        """Turn the errors of the SDK and of its HTTP client into ours."""
        try:
            yield
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise ObjectNotFoundError(f"There is no object {key!r} in the store.") from error
            if error.code == "PreconditionFailed":
                raise ObjectExistsError(f"The key {key!r} holds an object already.") from error
            if error.code == "InvalidRange":
                raise _RangeBehindEndError(key) from error
            raise self._unavailable(f"answered {error.code}: {error.message}") from error
        except (MinioException, ParseError) as error:
            raise self._unavailable(f"answered: {error}") from error
        except urllib3.exceptions.HTTPError as error:
            reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
            raise self._unavailable(f"cannot be reached: {reason}") from error

    def _unavailable(self, what: str) -> StoreUnavailableError:
        location = self.location
        return StoreUnavailableError(
            f"The object store at {location.endpoint} (bucket {location.bucket!r}) {what}. "
            "See that it runs, and that endpoint, credentials and bucket are right."
        )


class _RangeBehindEndError(Exception):
    """The range begins where the object has ended."""


def _stat(found: Object) -> ObjectStat:
    stored_at = found.last_modified or datetime.now(UTC)
    return ObjectStat(found.object_name or "", found.size or 0, stored_at, found.etag or "")


def _nothing() -> Generator[bytes]:
    yield from ()


def _size_bytes(stream: BinaryIO) -> int | None:
    """Bytes from the stream's position to its end, None where it cannot tell."""
    if not stream.seekable():
        return None
    start = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    return end - start
