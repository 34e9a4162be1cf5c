"""Uses of FastAPI and Starlette that are not documented by them.

Read at FastAPI 0.165.0 and Starlette 1.10.0. On an upgrade, check in the new source what each function names, and run
`tests/api`, which covers all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import Request
from fastapi.dependencies.utils import request_params_to_args
from fastapi.routing import APIRoute
from fastapi.sse import format_sse_event
from starlette.types import Scope


def route_name(scope: Scope) -> str | None:
    """Name of the route that took a request; None where none did.

    Check that routers put the route into the scope that middleware has passed on, as "route".
    """
    route = scope.get("route")
    return None if route is None else route.name


def body_types(request: Request) -> Collection[str]:
    """Media types of the body that the `openapi_extra` of the request's route describes.

    Check that a route keeps what it was given as `openapi_extra`.
    """
    content: dict[str, Any] = (_route(request).openapi_extra or {}).get("requestBody", {}).get("content", {})
    return content


def query_names(request: Request) -> list[str]:
    """Parameters of the query that the request's route takes, without those of its dependencies.

    Check that `APIRoute.dependant.query_params` has them, and that `alias` is their name in the URL.
    """
    return [field.alias for field in _route(request).dependant.query_params]


def query_errors(request: Request) -> list[dict[str, Any]]:
    """Errors of the values in the query, as pydantic describes them; FastAPI itself validates them after dependencies.

    Check that `request_params_to_args` returns values and errors, and that `loc` of an error begins with "query".
    """
    return request_params_to_args(_route(request).dependant.query_params, request.query_params)[1]


def sse_event(event: str, data: str, event_id: str | None) -> bytes:
    """One server-sent event.

    Check that `format_sse_event` still takes data that has been serialised, and returns bytes with an empty line last.
    """
    return format_sse_event(event=event, data_str=data, id=event_id)


def sse_comment(text: str) -> bytes:
    """A comment among server-sent events, which clients ignore; check as for `sse_event`."""
    return format_sse_event(comment=text)


def _route(request: Request) -> APIRoute:
    route: APIRoute = request.scope["route"]
    return route
