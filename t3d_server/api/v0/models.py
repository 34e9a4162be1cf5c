"""What the v0 API takes and answers: field names and forms are those of its clients, ids are UUIDs of version 1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from t3d_server.models import Device, Model
from t3d_server.models.runs import MAX_ARGS

Status = Literal["PENDING", "STARTED", "RUNNING", "COMPLETED", "FAILED", "STOPPED"]


class Fault(Model):
    """One fault of a request.

    Attributes:
        loc: where it is: "body", "query" or "path", then names and indices.
        msg: what it is.
        type: always "value_error".
    """

    loc: list[str | int]
    msg: str
    type: str = "value_error"


class Failure(Model):
    """An error.

    Attributes:
        detail: what was wrong; a list where the request does not fit the API.
        code: stable name of the error.
        retryable: whether the same request may succeed later.
        details: more of it, for programs.
    """

    detail: str | list[Fault]
    code: str
    retryable: bool = False
    details: dict[str, Any] | None = None


class Server(Model):
    """The server."""

    name: str
    tags: list[str]
    group: str
    organization: str
    domain: str
    version: str
    cuda_available: bool
    cuda_capable_devices_count: int


class FileId(Model):
    """The file that was stored, which is the dataset of that id."""

    file_id: str


class Url(Model):
    """Where the object store takes or gives a file, for an hour."""

    url: str


class Detail(Model):
    """What was done."""

    detail: str


class ParameterConfig(Model):
    """What values a parameter may have."""

    type: str
    default: Any
    adjustable: bool
    options: list[Any] = []
    min: float | int | None = None
    max: float | int | None = None
    step: float | int | None = None
    decimal_precision: int | None = None


class Parameter(Model):
    """A parameter of an algorithm."""

    name: str
    displayed_name: str
    description: str
    config: ParameterConfig


class Algorithm(Model):
    """All versions of an algorithm that share their major number, and the latest of them in full.

    `algorithm_input_queue` is for clients that read it; there are no queues to be named.
    """

    algorithm_id: str
    algorithm_name: str
    algorithm_version: str
    algorithm_minor_versions: list[str]
    latest_algorithm_minor_version: str
    algorithm_minor_version: str
    algorithm_input_queue: str = ""
    algorithm_type: str | None
    algorithm_tags: list[str]
    algorithm_description: str
    supported_devices: list[Device]
    default_device: Device
    additional_parameters: list[Parameter]
    training_parameters: list[Any] = []
    benchmark_outputs: list[Any] = []
    removable: bool = False
    exportable: bool = False
    storage_metrics: dict[str, Any] = {}


Text = Annotated[str, Field(coerce_numbers_to_str=True)]
Args = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]


class ExecuteRequest(Model):
    """What is to be executed; it is kept beside the run, for the record."""

    algorithm_id: str
    input_dataset_ids: list[str] = Field(max_length=10_000)
    checkpoint_id: Text | None = None
    algorithm_minor_version: Text | None = None
    execution_device_override: Device | None = None
    additional_parameters: Args = Field(default={}, max_length=MAX_ARGS)
    session_token: Text | None = None


class ExecutionId(Model):
    """The execution that was accepted, which is a run of that id."""

    execution_id: str


class ExecutionRecord(Model):
    """How an execution is.

    Attributes:
        algorithm_minor_version: as it was asked for; None is the latest.
        log: all text so far.
        time_completed: "" until the end.
    """

    execution_id: str
    algorithm_id: str
    checkpoint_id: str | None
    algorithm_minor_version: str | None
    input_dataset_ids: list[str]
    execution_device_override: Device | None
    resolved_execution_device: Literal["cpu", "cuda"]
    additional_parameters: dict[str, Any]
    session_token: str
    output_dataset_ids: list[str]
    status: Status
    progress: float = Field(ge=0, le=1)
    time_started: str
    time_completed: str
    log: str
