"""The v0 HTTP API as an ASGI app of its own, and how it comes beside that of v1 on one port."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from t3d_server import __version__
from t3d_server.api.audit import Audited
from t3d_server.api.auth import Gate, may_use
from t3d_server.api.bodies import fitted
from t3d_server.api.described import JSON, App, described
from t3d_server.api.requests import MAX_RUN_BYTES, Operations, json_content, spooled
from t3d_server.api.service import Service
from t3d_server.api.streams import ByteStream
from t3d_server.api.v0 import errors
from t3d_server.api.v0.algorithms import Algorithms
from t3d_server.api.v0.executions import Executions
from t3d_server.api.v0.files import Files
from t3d_server.api.v0.models import (
    Algorithm,
    Detail,
    ExecuteRequest,
    ExecutionId,
    ExecutionRecord,
    Failure,
    FileId,
    Server,
    Url,
)
from t3d_server.datasets.formats import HDF5
from t3d_server.ids import version_1

router = APIRouter(dependencies=[Depends(may_use)])

_OCTETS = "application/octet-stream"
_FILE = {"content": {_OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
_UPLOAD = {"requestBody": {"required": True, **_FILE}}
_DELETED = Detail(detail="File deleted successfully")
_STOPPING = Detail(detail="Stop request posted successfully")


def _files(request: Request) -> Files:
    files: Files = request.app.state.files
    return files


def _algorithms(request: Request) -> Algorithms:
    algorithms: Algorithms = request.app.state.algorithms
    return algorithms


def _executions(request: Request) -> Executions:
    executions: Executions = request.app.state.executions
    return executions


async def _execute_request(request: Request) -> ExecuteRequest:
    return fitted(ExecuteRequest, await json_content(request, MAX_RUN_BYTES, of_any_type=True))


FilesPart = Annotated[Files, Depends(_files)]
AlgorithmsPart = Annotated[Algorithms, Depends(_algorithms)]
ExecutionsPart = Annotated[Executions, Depends(_executions)]


@router.head("/", include_in_schema=False)
@router.get("/")
async def server(service: Operations) -> Server:
    """The server."""
    has_gpu = "gpu" in await service.publishing.devices()
    return Server(
        name="t3d_server",
        tags=["compox"],
        group="",
        organization="",
        domain="",
        version=__version__,
        cuda_available=has_gpu,
        cuda_capable_devices_count=int(has_gpu),
    )


@router.post("/api/v0/files", openapi_extra=_UPLOAD)
async def upload(request: Request, service: Operations) -> FileId:
    """Store the HDF5 file in the body."""
    async with spooled(request, service, service.limits.max_dataset_bytes) as file:
        return FileId(file_id=version_1((await service.add_upload(file, HDF5)).id))


@router.head("/api/v0/files/{file_id}", include_in_schema=False)
@router.get("/api/v0/files/{file_id}", response_class=Response, responses={200: _FILE})
async def download(request: Request, file_id: str, service: Operations, files: FilesPart) -> Response:
    """The HDF5 file."""
    dataset_id = await files.dataset_of(file_id)
    headers = {"Content-Length": str(await service.size_bytes(dataset_id))}
    if request.method == "HEAD":
        return Response(None, 200, headers, _OCTETS)
    return ByteStream(await service.file(dataset_id), 200, headers, _OCTETS)


@router.delete("/api/v0/files/{file_id}")
async def delete(file_id: str, files: FilesPart) -> Detail:
    """Remove a file."""
    await files.delete(file_id)
    return _DELETED


@router.delete("/api/v1/files/{object_name:path}")
async def delete_named(object_name: str, files: FilesPart) -> Detail:
    """Remove a file."""
    await files.delete(object_name)
    return _DELETED


@router.get("/api/v1/files/{object_name:path}/upload-url")
async def upload_url(object_name: str, files: FilesPart) -> Url:
    """Where to PUT a file under a name of the client's, for an hour. It is checked when it is first used."""
    return Url(url=await files.upload_url(object_name))


@router.get("/api/v1/files/{object_name:path}/download-url")
async def download_url(object_name: str, files: FilesPart) -> Url:
    """Where to GET a file, for an hour."""
    return Url(url=await files.download_url(object_name))


@router.get("/api/v0/algorithm/all")
async def all_algorithms(
    algorithms: AlgorithmsPart,
    positive_tag: Annotated[list[str], Query(description="Only with all of these tags.")] = [],  # noqa: B006
    negative_tag: Annotated[list[str], Query(description="Only without any of these tags.")] = [],  # noqa: B006
    supported_devices: Annotated[list[str], Query(description="Only for any of these devices.")] = [],  # noqa: B006
    algorithm_type: Annotated[str | None, Query(description="Only of this type.")] = None,
) -> list[Algorithm]:
    """All algorithms."""
    return await algorithms.list(positive_tag, negative_tag, supported_devices, algorithm_type)


@router.get("/api/v0/algorithm/{name}/{major}")
async def algorithm(name: str, major: str, algorithms: AlgorithmsPart) -> Algorithm:
    """An algorithm; its name may be in any case."""
    return await algorithms.find(name, major)


@router.post("/api/v0/execute-algorithm", openapi_extra=described(ExecuteRequest))
async def execute(
    content: Annotated[ExecuteRequest, Depends(_execute_request)], executions: ExecutionsPart
) -> ExecutionId:
    """Run an algorithm. Once this has answered, the execution will reach an end."""
    return ExecutionId(execution_id=await executions.start(content))


@router.get("/api/v0/executions/{execution_id}", response_model=ExecutionRecord)
async def execution(execution_id: str, executions: ExecutionsPart) -> Response:
    """How an execution is."""
    return Response(await executions.record(execution_id), media_type="application/json")


@router.post("/api/v0/executions/{execution_id}/stop")
async def stop(execution_id: str, executions: ExecutionsPart) -> Detail:
    """Stop an execution."""
    await executions.stop(execution_id)
    return _STOPPING


def create_v0(service: Service, gate: Gate) -> FastAPI:
    """Make the app.

    Args:
        service: the operations.
        gate: who may use them.
    """
    app = App(
        title="t3d_server v0",
        summary="Runs image-processing algorithms, for desktop clients.",
        errors=Failure,
        media_type=JSON,
        bodies=(ExecuteRequest,),
    )
    app.state.service = service
    app.state.gate = gate
    app.state.files = Files(service)
    app.state.algorithms = Algorithms(service)
    app.state.executions = Executions(service, app.state.algorithms, app.state.files)
    errors.install(app)
    app.add_middleware(Audited)
    app.include_router(router)
    return app


def without_doubled_slash(scope: Scope) -> Scope:
    """A request whose path begins with one slash, where clients have joined URLs to more."""
    if scope["type"] != "http" or not scope["path"].startswith("//"):
        return scope
    path = "/" + scope["path"].lstrip("/")
    return {**scope, "path": path, "raw_path": path.encode()}


class BesideV1:
    """ASGI middleware that has v0 answer `/` and what is below `/api/`, and passes the rest on."""

    def __init__(self, app: ASGIApp, v0: ASGIApp) -> None:
        self._app = app
        self._v0 = v0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "http":
            plain = without_doubled_slash(scope)
            if plain["path"] == "/" or plain["path"].startswith("/api/"):
                return await self._v0(plain, receive, send)
        return await self._app(scope, receive, send)
