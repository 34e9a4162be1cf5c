"""Reads bodies of requests into models, and reports everything in them that does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from t3d_server.errors import InvalidRequestError, Problem
from t3d_server.ids import canonical
from t3d_server.models import RunRequest
from t3d_server.packages.wording import did_you_mean

M = TypeVar("M", bound=BaseModel)
_MAX_REPORTED = 100


def fitted(model: type[M], content: object) -> M:
    """What a client sent, as a model.

    Raises:
        InvalidRequestError: it does not fit; names every field, unless there are very many.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _unfit(model, error) from error


@dataclass(frozen=True)
class Draft:
    """A request for a run, as far as it can be read.

    Attributes:
        request: the request; fields that cannot be read have their defaults, and there are no inputs.
        unread: names of these fields.
        fault: what is wrong with them.
    """

    request: RunRequest
    unread: frozenset[str] = frozenset()
    fault: InvalidRequestError | None = None

    @classmethod
    def of(cls, content: object) -> Draft:
        """What a client sent, ids of datasets in their canonical spelling.

        Raises:
            InvalidRequestError: there are so many faults that nothing else is checked.
        """
        try:
            request = RunRequest.model_validate(content)
            ids = [canonical(dataset_id) for dataset_id in request.input_dataset_ids]
            return cls(request.model_copy(update={"input_dataset_ids": ids}))
        except ValidationError as error:
            read = dict(content) if isinstance(content, Mapping) else {"input_dataset_ids": None}
            unread = frozenset(str((*fault["loc"], "input_dataset_ids")[0]) for fault in _faults(error))
            request = RunRequest.model_validate(
                {"input_dataset_ids": []} | {key: read[key] for key in read.keys() - unread}
            )
            return cls(request, unread, _unfit(RunRequest, error))


def place(path: Iterable[str | int]) -> str:
    """Where a problem is: `args.sigma`, `input_dataset_ids[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _unfit(model: type[BaseModel], error: ValidationError) -> InvalidRequestError:
    problems = [Problem(f"{place(fault['loc']) or 'body':.200}", _message(model, fault)) for fault in _faults(error)]
    return InvalidRequestError("The body does not fit the API.", problems=problems)


def _faults(error: ValidationError) -> list[ErrorDetails]:
    count = error.error_count()
    if count > _MAX_REPORTED:  # messages for a million faults take many seconds
        raise InvalidRequestError(f"The body does not fit the API: it has {count} faults.")
    return error.errors(include_input=False, include_url=False, include_context=False)


def _message(model: type[BaseModel], fault: Mapping[str, Any]) -> str:
    if fault["type"] == "model_type":  # pydantic's message names the class
        return "has to be a JSON object"
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"])
    known = model.model_fields
    return f"unknown; the fields are: {', '.join(known)}{did_you_mean(str(fault['loc'][-1])[:80], known)}"
