"""The HTTP API as an ASGI app: puts routes, tokens and errors together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request

from t3d_server import __version__
from t3d_server.api import algorithms, datasets, problems, runs
from t3d_server.api.auth import Gate, Role, may_use
from t3d_server.api.requests import Operations
from t3d_server.api.service import Service
from t3d_server.api.v0.app import BesideV1, create_v0
from t3d_server.models import Health, ProblemDetails, ServerInfo

_probes = APIRouter(tags=["health"])
_about = APIRouter(prefix="/v1", tags=["server"], dependencies=[Depends(may_use)])


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


def create_app(service: Service, tokens: Mapping[str, Role] | None) -> FastAPI:
    """Make the app.

    Args:
        service: the operations.
        tokens: role of each token; None lets everybody who reaches the port do everything.
    """
    error = {"model": ProblemDetails, "content": {problems.MEDIA_TYPE: {}}, "description": "What was wrong."}
    app = FastAPI(
        title="t3d_server",
        version=__version__,
        summary="Runs image-processing algorithms on datasets.",
        # The description is behind the token like everything else; the HTML pages would load scripts from elsewhere.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": error, "5XX": error, 422: error},
    )
    app.state.service = service
    app.state.gate = Gate(tokens)
    problems.install(app)
    app.add_middleware(BesideV1, v0=create_v0(service, app.state.gate))
    for router in (_probes, _about, datasets.router, algorithms.router, algorithms.admin, runs.router):
        app.include_router(router)
    return app
