"""Errors in the form of the v0 API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from t3d_server import errors
from t3d_server.api.bodies import place
from t3d_server.api.problems import STATUS, printable
from t3d_server.api.v0.models import Failure, Fault
from t3d_server.errors import Problem, T3dError

INTERNAL = "Failed due to an internal server error."
_PART = re.compile(r"\[(\d+)\]|([^][.]+)")
_VALIDATION = "request_validation_error"
_RETRYABLE = (429, 503)
_CODES: Mapping[type[T3dError], str] = {
    errors.DatasetNotFoundError: "file_not_found",
    errors.ExpiredError: "file_not_found",
    errors.InvalidDatasetError: "invalid_hdf5_file",
    errors.RunNotFoundError: "execution_record_not_found",
    errors.VersionNotFoundError: errors.AlgorithmNotFoundError.code,
}
"""Codes that differ from those of the classes."""
_FIELDS = {"args": "additional_parameters", "device": "execution_device_override"}
"""Fields of `ExecuteRequest` that v1 names otherwise."""


class InputsNotFoundError(errors.DatasetNotFoundError):
    """Inputs of an execution that are not there.

    Attributes:
        missing: their ids, or names.
    """

    code = "input_datasets_not_found"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("Some input datasets do not exist; upload them first.")
        self.missing = list(missing)


class NotStoppableError(errors.InvalidRequestError):
    """The execution has ended."""

    code = "execution_not_stoppable"


def install(app: FastAPI) -> None:
    """Have an app answer every error in this form."""
    app.add_exception_handler(InputsNotFoundError, _on_missing_inputs)
    app.add_exception_handler(NotStoppableError, _on_not_stoppable)
    app.add_exception_handler(T3dError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


def failure(
    status: int,
    code: str,
    detail: str,
    *,
    details: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The HTTP answer for an error."""
    text = INTERNAL if status >= 500 else printable(detail)
    return _answer(status, Failure(detail=text, code=code, retryable=status in _RETRYABLE, details=details), headers)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, T3dError)  # noqa: S101  # `install` registers it for these alone
    if isinstance(error, errors.InvalidRequestError | errors.InvalidArgsError) and error.problems:
        return _invalid(error.problems)
    if isinstance(error, errors.QueueFullError):
        headers = {"Retry-After": str(error.retry_after_s)}
        return failure(429, error.code, "Too many executions wait; try again in a while.", headers=headers)
    # For these clients, what has expired is not found.
    status = 404 if isinstance(error, errors.ExpiredError) else STATUS[type(error)]
    return failure(status, _CODES.get(type(error), error.code), str(error))


async def _on_missing_inputs(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputsNotFoundError)  # noqa: S101  # as above
    return failure(404, error.code, error.message, details={"missing_dataset_ids": error.missing})


async def _on_not_stoppable(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotStoppableError)  # noqa: S101  # as above
    return failure(400, error.code, error.message)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as above
    return failure(error.status_code, f"http_{error.status_code}", error.detail, headers=error.headers)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    return _invalid([Problem(place(fault["loc"]), fault["msg"]) for fault in error.errors()])


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """No client is there to receive this."""
    return Response(status_code=400)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """A fault of the server; starlette raises it again after the answer, so that it is logged."""
    return failure(500, T3dError.code, INTERNAL)


def _invalid(problems: Sequence[Problem]) -> Response:
    faults = [Fault(loc=_loc(printable(each.key)), msg=printable(each.message)) for each in problems]
    return _answer(422, Failure(detail=faults, code=_VALIDATION))


def _loc(key: str) -> list[str | int]:
    """Where a problem is, `args.sigma` or `input_dataset_ids[1]`, as a path from the part of the request on."""
    parts: list[str | int] = [int(index) if index else name for index, name in _PART.findall(key)]
    if parts[0] in ("body", "query", "path"):
        return parts
    return ["body", _FIELDS.get(str(parts[0]), parts[0]), *parts[1:]]


def _answer(status: int, content: Failure, headers: Mapping[str, str] | None = None) -> Response:
    without = {"details"} if content.details is None else None
    return Response(content.model_dump_json(exclude=without), status, headers, "application/json")
