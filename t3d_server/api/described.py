"""OpenAPI descriptions, with the models that FastAPI does not see: of errors and of bodies that the routes read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from t3d_server import __version__

JSON = "application/json"
_REF = "#/components/schemas/{model}"


class App(FastAPI):
    """An app without the routes that FastAPI adds.

    Args:
        title: its name.
        summary: what it does.
        errors: model of all of its errors.
        media_type: media type of its errors.
        bodies: models that `described` refers to.
    """

    def __init__(
        self, *, title: str, summary: str, errors: type[BaseModel], media_type: str, bodies: Iterable[type[BaseModel]]
    ) -> None:
        wrong = {"description": "An error.", "content": {media_type: {"schema": _named(errors)}}}
        super().__init__(
            title=title,
            summary=summary,
            version=__version__,
            # The description needs a token, as everything does; the HTML pages would load scripts of other servers.
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            responses={"4XX": wrong, "5XX": wrong},
        )
        self._named = (errors, *bodies)

    def openapi(self) -> dict[str, Any]:
        """The description."""
        if self.openapi_schema is None:
            _, schemas = models_json_schema([(model, "validation") for model in self._named], ref_template=_REF)
            super().openapi()["components"]["schemas"] |= schemas["$defs"]
        return super().openapi()


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The part of a route's description for its JSON body, which is one of the app's `bodies`."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _named(model)}}}}


def _named(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
