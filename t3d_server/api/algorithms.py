"""Routes of algorithms: what there is, and publishing, rolling back and removing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict

from t3d_server.api.described import described
from t3d_server.api.requests import FOR_ADMINS, FOR_USERS, Operations, WaitS, json_body, spooled
from t3d_server.errors import ObjectNotFoundError
from t3d_server.models import AlgorithmInfo, AlgorithmVersion, Device, Model, Publication, PublishRequest

router = APIRouter(prefix="/v1", tags=["algorithms"], dependencies=FOR_USERS)
admin = APIRouter(prefix="/v1", tags=["publishing"], dependencies=FOR_ADMINS)


class Choice(Model):
    """The version that is to be current."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str


@router.get("/algorithms")
async def algorithms(
    service: Operations,
    algorithm_type: Annotated[str | None, Query(alias="type", description="Only of this algorithm type.")] = None,
    tag: Annotated[str | None, Query(description="Only with this tag.")] = None,
    device: Annotated[Device | None, Query(description="Only what runs on this device.")] = None,
) -> list[AlgorithmInfo]:
    """All algorithms, by name."""
    return await service.algorithms(algorithm_type=algorithm_type, tag=tag, device=device)


@router.get("/algorithms/{name}")
async def algorithm(name: str, service: Operations) -> AlgorithmInfo:
    """An algorithm, its versions, and the current one in full.

    `version.manifest` has what a caller needs: `inputs` and `outputs` describe the datasets and their number;
    `additional_parameters`, or `/args-schema`, describe `args`.
    """
    return await service.algorithm(name)


# Before `/{version}`, which would take it for a version.
@router.get("/algorithms/{name}/args-schema")
async def args_schema(
    name: str,
    service: Operations,
    version: Annotated[str | None, Query(description="The version; the current one by default.")] = None,
) -> dict[str, Any]:
    """JSON Schema of the args, for forms; of the current version if `version` is not given.

    It accepts what a run accepts, by any draft since 6. `x-step` is for sliders; values between the steps are valid.
    Where `x-adjustable` is false, leave the parameter out of forms. These two are not JSON Schema's: ajv wants
    `strict: false`.
    """
    return await service.args_schema(name, version)


@router.get("/algorithms/{name}/{version}")
async def algorithm_version(name: str, version: str, service: Operations) -> AlgorithmVersion:
    """One version in full; its manifest is described at `/algorithms/{name}`."""
    return await service.version(name, version)


@admin.head("/blobs/{sha256}", response_class=Response)
async def has_blob(sha256: str, service: Operations) -> Response:
    """Whether a file is stored already: 200 or 404."""
    if not await service.has_blob(sha256):
        raise ObjectNotFoundError(f"The blob {sha256} is not stored.")
    return Response()


@admin.put("/blobs/{sha256}", status_code=204, response_class=Response)
async def put_blob(request: Request, sha256: str, service: Operations) -> None:
    """Store the body, a file of an algorithm folder, under its SHA-256."""
    async with spooled(request, service, service.limits.max_blob_bytes) as file:
        await service.put_blob(sha256, file)


@admin.post(
    "/algorithms",
    status_code=201,
    response_model=AlgorithmVersion,
    responses={202: {"model": Publication, "description": "It goes on: send the same request again."}},
    openapi_extra=described(PublishRequest),
)
async def publish(
    content: Annotated[PublishRequest, Depends(json_body(PublishRequest))], service: Operations, wait_s: WaitS = 30.0
) -> Response:
    """Publish an algorithm folder whose files are stored as blobs. Sending the same again changes nothing."""
    publication = await service.publish(content, wait_s)
    version = publication.version
    if version is None:
        return _json(publication, 202)
    location = f"/v1/algorithms/{version.manifest.name}/{version.manifest.version}"
    return _json(version, 201, {"Location": location})


@admin.put("/algorithms/{name}/current", openapi_extra=described(Choice))
async def use(name: str, choice: Annotated[Choice, Depends(json_body(Choice))], service: Operations) -> AlgorithmInfo:
    """Make a version the current one, which requests without a version get."""
    return await service.use(name, choice.version)


@admin.delete("/algorithms/{name}/{version}", status_code=204, response_class=Response)
async def remove(
    name: str,
    version: str,
    service: Operations,
    runs: Annotated[
        Literal["wait", "cancel"], Query(description="Whether to wait for its open runs, or cancel them.")
    ] = "wait",
) -> None:
    """Remove a version, after its runs have ended or were cancelled."""
    await service.remove(name, version, cancel_runs=runs == "cancel")


def _json(model: Model, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), status, headers, "application/json")
