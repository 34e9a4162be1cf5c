"""Routes of datasets: upload, download, description, removal."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.exceptions import HTTPException

from t3d_server.api.auth import may_use
from t3d_server.api.requests import Operations, spooled
from t3d_server.api.streams import ByteStream, requested_span
from t3d_server.datasets.formats import HDF5, NPY, READABLE, WRITABLE, readable
from t3d_server.errors import InvalidRequestError, Problem
from t3d_server.models import DatasetInfo

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(may_use)])

_FILE = {"type": "string", "format": "binary"}
_UPLOAD = {"requestBody": {"required": True, "content": {kind: {"schema": _FILE} for kind in READABLE}}}
_DOWNLOAD: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {"schema": _FILE} for kind in (HDF5, *WRITABLE)}}}
# An id never names other bytes. Private: they are for the token's owner.
_FOR_EVER = "private, max-age=31536000, immutable"


@router.post("", status_code=201, openapi_extra=_UPLOAD)
async def upload(
    request: Request,
    response: Response,
    service: Operations,
    key: Annotated[str, Query(description="Key that an image or npy array is stored under.")] = "image",
    axes: Annotated[str | None, Query(description="Axes of `image`: YX, YXC, CYX, ZYX or ZYXC.")] = None,
    spacing: Annotated[
        str | None, Query(description="Distance of samples for each spatial axis in axis order, such as 2,.65,.65")
    ] = None,
    spacing_unit: Annotated[str | None, Query(description="Unit of `spacing`; um by default.")] = None,
) -> DatasetInfo:
    """Store the file in the body as a new dataset; Content-Type tells its format, HDF5 by default."""
    content_type = readable(request.headers.get("content-type", HDF5))
    distances = None if spacing is None else _numbers("spacing", spacing)
    async with spooled(request, service, service.limits.max_dataset_bytes) as file:
        info = await service.add_upload(
            file, content_type, key=key, axes=axes, spacing=distances, spacing_unit=spacing_unit
        )
    response.headers["Location"] = f"/v1/datasets/{info.id}"
    return info


@router.get("/{dataset_id}", response_class=Response, responses=_DOWNLOAD)
async def download(
    request: Request,
    dataset_id: str,
    service: Operations,
    array: Annotated[str | None, Query(description="Only this array, in the format that Accept asks for.")] = None,
) -> Response:
    """The HDF5 file, or a range of it; or one array as npy, PNG or TIFF."""
    headers = {"Cache-Control": _FOR_EVER, "X-Content-Type-Options": "nosniff"}
    if array is not None:
        media_type = _accepted(request.headers.get("accept", "*/*"))
        headers |= {"ETag": f'"{dataset_id}"', "Vary": "Accept"}
        return ByteStream(await service.array(dataset_id, array, media_type), 200, headers, media_type)
    size_bytes = await service.size_bytes(dataset_id)
    etag = f'"{dataset_id}"'
    headers |= {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{dataset_id}.h5"',
    }
    # If-Range asks for the whole where the client's part is of another file.
    asked = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    span = requested_span(asked, size_bytes)
    if span is None:
        headers |= {"Content-Length": str(size_bytes)}
        return ByteStream(await service.file(dataset_id), 200, headers, HDF5)
    last = span.offset + span.length - 1
    headers |= {"Content-Length": str(span.length), "Content-Range": f"bytes {span.offset}-{last}/{size_bytes}"}
    return ByteStream(await service.file(dataset_id, span.offset, span.length), 206, headers, HDF5)


@router.head("/{dataset_id}", response_class=Response)
async def head(dataset_id: str, service: Operations) -> Response:
    """Size of the file, without the file."""
    return Response(
        headers={
            "Accept-Ranges": "bytes",
            "Cache-Control": _FOR_EVER,
            "Content-Length": str(await service.size_bytes(dataset_id)),
            "ETag": f'"{dataset_id}"',
        },
        media_type=HDF5,
    )


@router.get("/{dataset_id}/info")
async def info(dataset_id: str, service: Operations) -> DatasetInfo:
    """Keys, shapes, dtypes, axes, spacing and size."""
    return await service.info(dataset_id)


@router.delete("/{dataset_id}", status_code=204)
async def delete(dataset_id: str, service: Operations) -> None:
    """Remove the dataset for good."""
    await service.delete(dataset_id)


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        problem = Problem(name, f"found {text!r:.80}, allowed are numbers separated by commas, such as 2,.65,.65")
        raise InvalidRequestError("The request does not fit the API.", problems=[problem]) from None


def _accepted(accept: str) -> str:
    """The first format of the Accept header that arrays can be written in."""
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in WRITABLE:
            return kind
        if kind in ("*/*", "application/*", ""):
            return NPY
    raise HTTPException(406, f"Arrays are not written as {accept!r:.80}; allowed are {', '.join(WRITABLE)}.")
