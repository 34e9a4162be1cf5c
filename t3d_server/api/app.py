"""The HTTP API as an ASGI app: routes, tokens and errors together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware

from t3d_server.api import algorithms, datasets, problems, runs
from t3d_server.api.audit import Audited
from t3d_server.api.auth import Gate, Role
from t3d_server.api.described import App
from t3d_server.api.requests import FOR_USERS, Operations
from t3d_server.api.service import Service
from t3d_server.api.v0.app import BesideV1, create_v0
from t3d_server.models import Health, ProblemDetails, PublishRequest, RunRequest, ServerInfo

_probes = APIRouter(tags=["health"])
_about = APIRouter(prefix="/v1", tags=["server"], dependencies=FOR_USERS)

# Headers that pages of other origins may send and read, beside those that are always allowed.
_SENT = ("Authorization", "Idempotency-Key", "If-None-Match", "If-Range", "Last-Event-ID", "Range")
_READ = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)


@_probes.get("/healthz")
async def healthz() -> Health:
    """Whether the process is up. Needs no token."""
    return Health(status="ok")


@_probes.get("/readyz")
async def readyz(service: Operations) -> Health:
    """Whether it can serve: store and coordinator answer. Needs no token."""
    await service.ready()
    return Health(status="ready")


@_about.get("")
async def server(service: Operations) -> ServerInfo:
    """The server, its devices and limits."""
    return await service.server()


@_about.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """This description."""
    description: dict[str, Any] = request.app.openapi()
    return description


def create_app(service: Service, tokens: Mapping[str, Role] | None, *, cors_origins: Sequence[str] = ()) -> FastAPI:
    """Make the app.

    Args:
        service: the operations.
        tokens: role of each token; None turns authentication off.
        cors_origins: origins whose pages browsers let use v1, such as "https://viewer.example.org", or "*" for all.
    """
    app = App(
        title="t3d_server",
        summary="Runs image-processing algorithms on datasets.",
        errors=ProblemDetails,
        media_type=problems.MEDIA_TYPE,
        bodies=(PublishRequest, algorithms.Choice, RunRequest),
    )
    app.state.service = service
    app.state.gate = Gate(tokens)
    problems.install(app)
    if cors_origins:
        # Pages send tokens in a header; browsers never add them by themselves, as they do with cookies.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=_SENT,
            expose_headers=_READ,
        )
    app.add_middleware(Audited)
    app.add_middleware(BesideV1, v0=create_v0(service, app.state.gate))
    for router in (_probes, _about, datasets.router, algorithms.router, algorithms.admin, runs.router):
        app.include_router(router)
    return app
