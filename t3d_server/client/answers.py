"""Answers that are errors, as the errors of `errors.py` that the server raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import requests

from t3d_server.errors import (
    ForbiddenError,
    ObjectNotFoundError,
    Problem,
    ServerUnavailableError,
    StoreUnavailableError,
    T3dError,
    UnauthorizedError,
)
from t3d_server.models import ProblemDetails

_TOKEN_ADVICE = "Give one as `Client(token=...)` or in T3D_TOKEN."  # noqa: S105  # no token


def _classes(base: type[T3dError]) -> Iterator[type[T3dError]]:
    yield base
    for child in base.__subclasses__():
        yield from _classes(child)


# A subclass comes after its base and takes the code that both share.
ERRORS: Mapping[str, type[T3dError]] = {cls.code: cls for cls in _classes(T3dError)}
"""The error class of each code."""

# In place of the body, which an answer to HEAD does not have.
_HEAD_ERRORS: Mapping[int, tuple[type[T3dError], str]] = {
    401: (UnauthorizedError, "The token is not valid here."),
    403: (ForbiddenError, "This needs an admin token; yours may use datasets and runs only."),
    404: (ObjectNotFoundError, "The server does not have it."),
    503: (StoreUnavailableError, "The object store does not answer."),
}


def error_of(response: requests.Response, url: str) -> T3dError | None:
    """The error of an answer; None if it is not an answer of a t3d server.

    Args:
        response: an answer without success; its body may not be read yet.
        url: base URL of the server.
    """
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    problems: list[Problem] = []
    traceback = None
    if response.request.method == "HEAD":
        unknown = f"The server answered {response.status_code} {response.reason} to HEAD {response.url}."
        kind, message = _HEAD_ERRORS.get(response.status_code, (T3dError, unknown))
    else:
        try:
            problem = ProblemDetails.model_validate_json(response.content)
        except (ValueError, requests.RequestException):
            return None
        kind = ERRORS.get(problem.code, T3dError)
        message = problem.detail
        problems = [Problem(item.key, item.message) for item in problem.errors]
        traceback = problem.traceback
    if kind in (UnauthorizedError, ForbiddenError):
        message = f"{url}: {message} {_TOKEN_ADVICE}"
    error = kind(message, problems=problems, traceback=traceback)
    if traceback:
        error.add_note(f"\nOn the server:\n{traceback.rstrip()}")
    return error


def unexpected_answer(response: requests.Response, url: str) -> ServerUnavailableError:
    """The error for an answer that is not one of a t3d server."""
    kind = response.headers.get("Content-Type", "no content type")
    # Either the proxy, while the server behind it starts again, or a server of another kind.
    starting = response.status_code >= 500 or response.status_code == 404
    why = "is it starting again, or is the URL wrong?" if starting else "is the URL right?"
    return ServerUnavailableError(
        f"{url} answered {response.status_code} {response.reason} ({kind}) to {response.request.method} "
        f"{response.request.path_url}, which no t3d server does: {why}"
    )
