"""Errors as HTTP answers: the status of every error class, and `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from t3d_server import errors
from t3d_server.api.bodies import place
from t3d_server.errors import InvalidRequestError, Problem, T3dError
from t3d_server.models import ProblemDetails, ProblemItem

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[T3dError], int] = {
    errors.T3dError: 500,
    errors.InvalidInputError: 422,
    errors.InvalidRequestError: 422,
    errors.InvalidDatasetError: 422,
    errors.UnsupportedMediaTypeError: 415,
    errors.PayloadTooLargeError: 413,
    errors.InvalidArgsError: 422,
    errors.DeviceNotSupportedError: 422,
    errors.InvalidPackageError: 422,
    errors.MissingBlobsError: 422,
    errors.ImportFailedError: 422,
    errors.LoadFailedError: 422,
    errors.NotFoundError: 404,
    errors.DatasetNotFoundError: 404,
    errors.AlgorithmNotFoundError: 404,
    errors.VersionNotFoundError: 404,
    errors.RunNotFoundError: 404,
    errors.ExpiredError: 410,
    errors.ObjectNotFoundError: 404,
    errors.ConflictError: 409,
    errors.VersionConflictError: 409,
    errors.ObjectExistsError: 409,
    errors.UnauthorizedError: 401,
    errors.ForbiddenError: 403,
    errors.QueueFullError: 429,
    errors.StoreUnavailableError: 503,
    errors.ServerUnavailableError: 503,
    errors.AlgorithmError: 500,
}
"""The status of each class of `errors.py`; a test checks that none is missing."""

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
_CODES = {404: "not_found", 405: "method_not_allowed", 406: "unsupported_media_type"}


def answer(error: T3dError) -> Response:
    """The HTTP answer for an error."""
    return _answer(
        STATUS[type(error)],
        error.code,
        error.message,
        problems=error.problems,
        traceback=error.traceback,
        headers={"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.QueueFullError) else {},
    )


def printable(text: str) -> str:
    """Text that UTF-8 can encode: file names and messages of authors may have lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def install(app: FastAPI) -> None:
    """Have the app answer every error as problem+json."""
    app.add_exception_handler(T3dError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, T3dError)  # noqa: S101  # `install` registers it for these alone
    return answer(error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as above
    detail = error.detail
    if error.status_code == 404:
        detail = f"There is no {request.url.path!r:.200} here."
    if error.status_code == 405:
        detail = f"{request.method} is not what {request.url.path!r:.200} takes."
    code = _CODES.get(error.status_code, InvalidRequestError.code)
    return _answer(error.status_code, code, detail, headers=error.headers or {})


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    problems = [Problem(place(fault["loc"][1:]), fault["msg"]) for fault in error.errors()]
    return answer(InvalidRequestError("The request does not fit the API.", problems=problems))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """No client is there to receive this."""
    return Response(status_code=400)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """A fault of the server; starlette raises it again after the answer, so that it is logged."""
    return _answer(500, T3dError.code, "The server failed to answer; its log has the reason.")


def _answer(
    status: int,
    code: str,
    detail: str,
    *,
    problems: Iterable[Problem] = (),
    traceback: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = ProblemDetails(
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=printable(detail),
        code=code,
        errors=[ProblemItem(key=printable(each.key), message=printable(each.message)) for each in problems],
        traceback=None if traceback is None else printable(traceback),
    )
    return Response(
        problem.model_dump_json(),
        status,
        headers={**_HEADERS.get(status, {}), **(headers or {})},
        media_type=MEDIA_TYPE,
    )
