"""Every error that t3d_server raises on purpose; no HTTP in it.

T3dError
├── InvalidInputError(ValueError)   the caller sent something wrong
│   ├── InvalidRequestError         a request that contradicts the API
│   ├── InvalidDatasetError         a file or dictionary that is no dataset
│   ├── UnsupportedMediaTypeError   a format that is not read or written
│   ├── PayloadTooLargeError        more bytes than the limit, sent or once unpacked
│   ├── InvalidArgsError            args that do not fit the parameters
│   ├── DeviceNotSupportedError     a device the algorithm does not run on
│   ├── InvalidPackageError         an algorithm folder or manifest that is wrong
│   ├── MissingBlobsError           files of an algorithm folder that are not uploaded
│   ├── ImportFailedError           `Runner` cannot be imported
│   └── LoadFailedError             `load_assets` raised or did not return
├── NotFoundError(LookupError)
│   ├── DatasetNotFoundError  AlgorithmNotFoundError  VersionNotFoundError  RunNotFoundError
│   ├── ExpiredError                a dataset or run that is not kept any more
│   └── ObjectNotFoundError         a key the object store does not hold
├── ConflictError
│   ├── VersionConflictError        a version published twice with other content
│   └── ObjectExistsError           `if_absent` lost: the key is there already
├── UnauthorizedError  ForbiddenError
├── QueueFullError                  more runs wait than may
├── StoreUnavailableError           the object store cannot be reached
├── ServerUnavailableError          the server cannot be reached, or cannot serve yet
└── AlgorithmError                  a run that ended without a result

RunCancelled(BaseException)         raised inside the author's code to stop a run
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        key: where it is, as a path a reader can follow (`tool.t3dserver.tags[1]`, `args.sigma`).
        message: what was found and what is allowed.
    """

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class T3dError(Exception):
    """Base of all errors of this package.

    Args:
        message: what was wrong, where, and what to do about it.
        problems: each single fault, where several were found at once.
        traceback: the traceback of the author's code that caused it, as text.
    """

    code = "internal_error"

    def __init__(self, message: str, *, problems: Iterable[Problem] = (), traceback: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)
        self.traceback = traceback

    def __str__(self) -> str:
        return "\n  - ".join([self.message, *map(str, self.problems)])

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments would be lost: errors travel between Ray processes by pickle.
        return type(self), (self.message,), self.__dict__


class InvalidInputError(T3dError, ValueError):
    """The caller sent something wrong; sending it again unchanged will fail again."""

    code = "invalid_request"


class InvalidRequestError(InvalidInputError):
    """A request that contradicts the API."""


class InvalidDatasetError(InvalidInputError):
    """A file or dictionary that is no dataset."""

    code = "invalid_dataset"


class UnsupportedMediaTypeError(InvalidInputError):
    """A file format that is not read or written."""

    code = "unsupported_media_type"


class PayloadTooLargeError(InvalidInputError):
    """More bytes than the limit, as sent or once unpacked."""

    code = "payload_too_large"


class InvalidArgsError(InvalidInputError):
    """Args that do not fit the algorithm's parameters."""

    code = "invalid_args"


class DeviceNotSupportedError(InvalidInputError):
    """A device that the algorithm does not run on."""

    code = "device_not_supported"


class InvalidPackageError(InvalidInputError):
    """An algorithm folder or manifest that is wrong."""

    code = "invalid_package"


class MissingBlobsError(InvalidInputError):
    """Files of an algorithm folder that are not uploaded, or no longer there."""

    code = "missing_blobs"


class ImportFailedError(InvalidInputError):
    """`Runner` cannot be imported from the package."""

    code = "import_failed"


class LoadFailedError(InvalidInputError):
    """`load_assets` raised, or did not return in time."""

    code = "load_failed"


class NotFoundError(T3dError, LookupError):
    """Something that is addressed by name or id is not there."""

    code = "not_found"


class DatasetNotFoundError(NotFoundError):
    """No dataset has this id."""

    code = "dataset_not_found"


class AlgorithmNotFoundError(NotFoundError):
    """No algorithm has this name."""

    code = "algorithm_not_found"


class VersionNotFoundError(NotFoundError):
    """The algorithm has no such version."""

    code = "version_not_found"


class RunNotFoundError(NotFoundError):
    """No run has this id."""

    code = "run_not_found"


class ExpiredError(NotFoundError):
    """A dataset, a run or a log that was kept for some time, which is over."""

    code = "expired"


class ObjectNotFoundError(NotFoundError):
    """The object store does not hold this key."""

    code = "object_not_found"


class ConflictError(T3dError):
    """The request contradicts what is already stored."""

    code = "conflict"


class VersionConflictError(ConflictError):
    """A version that is, or was, published with other content."""

    code = "version_conflict"


class ObjectExistsError(ConflictError):
    """`if_absent` lost: the key holds an object already."""

    code = "object_exists"


class UnauthorizedError(T3dError):
    """The request carries no valid token."""

    code = "unauthorized"


class ForbiddenError(T3dError):
    """The token's role does not allow this."""

    code = "forbidden"


class QueueFullError(T3dError):
    """More runs wait than may; it is safe to try again later.

    Args:
        message: which queue it is.
        retry_after_s: when there may be room, in whole seconds.
    """

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class StoreUnavailableError(T3dError):
    """The object store cannot be reached; it is safe to try again later."""

    code = "store_unavailable"


class ServerUnavailableError(T3dError):
    """The server cannot be reached, or cannot serve yet."""

    code = "server_unavailable"


class AlgorithmError(T3dError):
    """A run that ended without a result; `traceback` is that of the author's code, and part of the text.

    Args:
        message: which algorithm, and what became of its run.
        run_id: the run; None where it was none of a server's.
        run_code: why it has no result, as `RunFailure.code` has it: "algorithm_error", "cancelled", "timeout",
            "attempts_exhausted" or the code of another error.
    """

    code = "algorithm_error"

    def __init__(self, message: str, *, run_id: str | None = None, run_code: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.run_id = run_id
        self.run_code = run_code

    def __str__(self) -> str:
        return "\n\n".join(filter(None, [super().__str__(), (self.traceback or "").rstrip()]))


class RunCancelled(BaseException):
    """Stops a cancelled run from inside a call back.

    Not an `Exception`, so that an author's `except Exception` cannot swallow it.
    """


class Faults:
    """What is wrong with a request, collected so that all of it is told at once; false while nothing is."""

    def __init__(self) -> None:
        self._found: list[tuple[str, T3dError]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, key: str, fault: T3dError) -> None:
        """Add a fault; `key` says where it is, if it has no problems that do."""
        self._found.append((key, fault))

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Collect the fault of the caller that is raised within, as `add` does; all else passes."""
        try:
            yield
        except (InvalidInputError, NotFoundError) as fault:
            self.add(key, fault)

    def raise_if_any(self) -> None:
        """Raise what was collected, if there is something.

        Raises:
            T3dError: the one fault; of several, one of the class that they share.
            InvalidRequestError: they are of several classes.
        """
        if not self._found:
            return
        [(_, first), *others] = self._found
        if not others:
            raise first
        kinds = {type(fault) for _, fault in self._found}
        kind = InvalidRequestError if len(kinds) > 1 else kinds.pop()
        problems = [each for key, fault in self._found for each in fault.problems or [Problem(key, fault.message)]]
        raise kind("Several things are wrong with the request.", problems=problems)
