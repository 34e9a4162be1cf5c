"""Routes of datasets: upload, download, description, removal."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from t3d_server.api.negotiation import agreed
from t3d_server.api.requests import FOR_USERS, Id, Operations, spooled
from t3d_server.api.streams import ByteStream, requested_span
from t3d_server.datasets.formats import HDF5, READABLE, WRITABLE, by_content_type
from t3d_server.models import DatasetInfo

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=FOR_USERS)

_FILE = {"type": "string", "format": "binary"}
_UPLOAD = {"requestBody": {"required": True, "content": {kind: {"schema": _FILE} for kind in READABLE}}}
_KNOWN: dict[int | str, dict[str, Any]] = {304: {"description": "The client has it: If-None-Match has its ETag."}}
_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": _FILE} for kind in (HDF5, *WRITABLE)}},
    206: {"description": "The part of the HDF5 file that Range asks for.", "content": {HDF5: {"schema": _FILE}}},
    **_KNOWN,
}

ArrayName = Annotated[str | None, Query(description="Only this array, in the format that Accept asks for.")]

# The bytes of an id never change. Private: they are for the owner of the token.
_FOR_EVER = "private, max-age=31536000, immutable"


def _numbers(text: str) -> str:
    """The text, if it holds numbers; else pydantic's error."""
    try:
        list(map(float, text.split(",")))
    except ValueError:
        message = "found {found}, allowed are numbers separated by commas, such as 2,.65,.65"
        raise PydanticCustomError("no_numbers", message, {"found": f"{text!r:.80}"}) from None
    return text


@router.post("", status_code=201, openapi_extra=_UPLOAD)
async def upload(
    request: Request,
    response: Response,
    service: Operations,
    key: Annotated[str, Query(description="Key that an image or npy array is stored under.")] = "image",
    axes: Annotated[str | None, Query(description="Axes of `image`: YX, YXC, CYX, ZYX or ZYXC.")] = None,
    spacing: Annotated[
        str | None,
        AfterValidator(_numbers),
        Query(description="Distance of samples for each spatial axis in axis order, such as 2,.65,.65"),
    ] = None,
    spacing_unit: Annotated[str | None, Query(description="Unit of `spacing`; um by default.")] = None,
) -> DatasetInfo:
    """Store the file in the body as a new dataset; Content-Type is its format, HDF5 by default."""
    content_type = by_content_type(request.headers.get("content-type", HDF5)).media_type
    distances = None if spacing is None else [float(part) for part in spacing.split(",")]
    async with spooled(request, service, service.limits.max_dataset_bytes) as file:
        info = await service.add_upload(
            file, content_type, key=key, axes=axes, spacing=distances, spacing_unit=spacing_unit
        )
    response.headers["Location"] = f"/v1/datasets/{info.id}"
    return info


@router.get("/{dataset_id}", response_class=Response, responses=_DOWNLOAD)
async def download(request: Request, dataset_id: Id, service: Operations, array: ArrayName = None) -> Response:
    """The HDF5 file, or a range of it; or one array as npy, PNG or TIFF."""
    kind, headers = await _headers(request, service, dataset_id, array)
    etag = headers["ETag"]
    if _knows(request, etag):
        headers.pop("Content-Length", None)
        return Response(status_code=304, headers=headers)
    if array is not None:
        size_bytes, body = await service.array(dataset_id, array, kind)
        return ByteStream(body, 200, headers | {"Content-Length": str(size_bytes)}, kind)
    # If-Range asks for the whole file if the client has a part of another one.
    asked = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    span = requested_span(asked, int(headers["Content-Length"]))
    if span is None:
        return ByteStream(await service.file(dataset_id), 200, headers, kind)
    last = span.offset + span.length - 1
    headers["Content-Range"] = f"bytes {span.offset}-{last}/{headers['Content-Length']}"
    headers["Content-Length"] = str(span.length)
    return ByteStream(await service.file(dataset_id, span.offset, span.length), 206, headers, kind)


@router.head("/{dataset_id}", response_class=Response, responses=_KNOWN)
async def head(request: Request, dataset_id: Id, service: Operations, array: ArrayName = None) -> Response:
    """The headers of GET, without the file or array; no Content-Length if only a conversion shows the size."""
    kind, headers = await _headers(request, service, dataset_id, array)
    response = Response(status_code=304 if _knows(request, headers["ETag"]) else 200, media_type=kind)
    response.headers.update(headers)
    if "Content-Length" not in headers or response.status_code == 304:
        del response.headers["Content-Length"]
    return response


@router.get("/{dataset_id}/info")
async def info(dataset_id: Id, service: Operations) -> DatasetInfo:
    """Keys, shapes, dtypes, axes, spacing and size."""
    return await service.info(dataset_id)


@router.delete("/{dataset_id}", status_code=204, response_class=Response)
async def delete(dataset_id: Id, service: Operations) -> None:
    """Remove the dataset for good."""
    await service.delete(dataset_id)


async def _headers(
    request: Request, service: Operations, dataset_id: str, array: str | None
) -> tuple[str, dict[str, str]]:
    """Media type and headers of a file or an array that is there."""
    headers = {"Cache-Control": _FOR_EVER, "X-Content-Type-Options": "nosniff"}
    if array is None:
        agreed(request, (HDF5, *by_content_type(HDF5).aliases))
        headers["Content-Length"] = str(await service.size_bytes(dataset_id))
        headers |= {"Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{dataset_id}.h5"'}
        return HDF5, headers | {"ETag": f'"{dataset_id}"'}
    kind = agreed(request, WRITABLE)
    size_bytes = await service.array_size_bytes(dataset_id, array, kind)
    if size_bytes is not None:
        headers["Content-Length"] = str(size_bytes)
    variant = hashlib.sha256(f"{kind} {array}".encode("utf-8", "backslashreplace")).hexdigest()[:16]
    # Weak if a later release of a library may write the same pixels as other bytes.
    weak = "W/" if by_content_type(kind).header is None else ""
    etag = f'{weak}"{dataset_id}-{variant}"'
    return kind, headers | {"ETag": etag, "Vary": "Accept"}


def _knows(request: Request, etag: str) -> bool:
    """Whether the client has the content with this tag (If-None-Match, which compares all tags as weak ones)."""
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags
