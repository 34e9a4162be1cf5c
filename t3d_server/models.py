"""Wire models: what the HTTP API, the handles, the store and the client exchange.

Times are UTC and written as RFC 3339; durations end in `_s` (seconds), sizes in `_bytes`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Device = Literal["cpu", "gpu"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Kind = Literal["array", "text", "number", "boolean", "list", "any"]


def utc_now() -> datetime:
    """The time now, UTC, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Model(BaseModel):
    """Base of the wire models: unknown fields are kept out, fields are not changed by accident."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ArrayInfo(Model):
    """Shape and numpy dtype name of one array of a dataset."""

    shape: tuple[int, ...]
    dtype: str


class DatasetInfo(Model):
    """What is known of a dataset without reading its arrays.

    Attributes:
        id: UUID version 7.
        size_bytes: size of its HDF5 file.
        created_at: when it was stored.
        arrays: every numeric array by key.
        values: the small values (text, lists of text, scalars) by key.
        axes: axes of `image` ("YX", "YXC", "ZYX", "ZYXC", "CYX"), None without an image.
        spacing: distance of neighbouring samples, one for each spatial axis in axis order.
        spacing_unit: unit of `spacing`.
    """

    id: str
    size_bytes: int
    created_at: datetime
    arrays: dict[str, ArrayInfo] = {}
    values: dict[str, Any] = {}
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    spacing_unit: str | None = None


class Parameter(Model):
    """One parameter of an algorithm, as its manifest declares it.

    Attributes:
        name: key in `args`.
        description: shown to users as help.
        type: one of the 13 parameter types of the module spec.
        default: value used where `args` has none.
        adjustable: whether a client shows it to its user.
        min: least value of a range type.
        max: greatest value of a range type.
        step: step of the client's slider; not enforced.
        options: allowed values of an enum type.
    """

    name: str
    description: str
    type: str
    default: Any
    adjustable: bool = True
    min: float | int | None = None
    max: float | int | None = None
    step: float | int | None = None
    options: list[Any] | None = None


class DataKey(Model):
    """One key of a dataset that an algorithm takes or gives.

    Attributes:
        key: its name; an array is the HDF5 dataset of this name.
        kind: what it holds; "any" where the algorithm does not say.
        optional: whether it may be absent.
        description: what it means.
        shapes: the shapes that an array may have, any where empty. A number is a length and a word stands for any:
            "(Z, Y, X, 3 or 4)", "(V, 3)".
        dtypes: the numpy dtypes that an array may have, any where empty.
        items: what a list holds; a list of arrays is one array with a leading axis, and each has one of `shapes`.
        length: length of a list, None for any.
        options: the values that it may have, any where empty.
    """

    key: str
    kind: Kind
    optional: bool = False
    description: str = ""
    shapes: list[str] = []
    dtypes: list[str] = []
    items: Kind | None = None
    length: int | None = None
    options: list[Any] = []


class InputInfo(Model):
    """The datasets that a run works on, `input_dataset_ids`.

    Attributes:
        min_datasets: the fewest that a run takes.
        max_datasets: the most, None for any number.
        rule: what holds for all of them together, in words.
        keys: what each of them has to hold, None where the algorithm does not say; it may hold more.
    """

    min_datasets: int
    max_datasets: int | None = None
    rule: str = ""
    keys: list[DataKey] | None = None


class OutputInfo(Model):
    """The datasets that a run makes, `output_dataset_ids`.

    Attributes:
        count: how many there are and in which order, in words, such as "one for each input, in order"; None where the
            algorithm does not say.
        keys: what each of them holds, None where the algorithm does not say; it may hold more.
    """

    count: str | None = None
    keys: list[DataKey] | None = None


class Manifest(Model):
    """The validated `pyproject.toml` of an algorithm folder, and what its `Runner` class tells beside it.

    Attributes:
        name: `[project] name`.
        version: `[project] version`, "major.minor.patch".
        dependencies: `[project] dependencies`, requirement strings (PEP 508).
        algorithm_type: "Image2Image", ..., "Generic", or a type of the module's own; None until taken from the class.
        inputs: what goes in, by the class; None where it does not say, and until it was imported.
        outputs: what comes out, likewise.
        tags: what it is for, for filters.
        description: one or two sentences for users.
        supported_devices: where it can run.
        default_device: where it runs unless a request says otherwise.
        additional_parameters: what `args` may hold.
        check_importable: import the package in a fresh process before it is deployed.
        obfuscate: minify the code.
        hash_module: accepted; storage is addressed by content in any case.
        hash_assets: accepted, likewise.
        load_timeout_s: longest time `load_assets` may take.
        num_cpus: logical CPUs a replica reserves; None takes the server's default.
        gpu_memory_bytes: GPU memory a replica needs; decides its share of a GPU.
        num_gpus: share of a GPU a replica reserves; the alternative to `gpu_memory`.
        min_replicas: replicas kept warm.
        max_replicas: most replicas; None takes the server's default.
        runs_per_replica: runs that one replica works on at a time.
        timeout_s: longest time an attempt at a run may take, unless the request says otherwise; None takes the server's
            limit.
    """

    name: str
    version: str
    dependencies: list[str] = []
    algorithm_type: str | None = None
    inputs: InputInfo | None = None
    outputs: OutputInfo | None = None
    tags: list[str] = []
    description: str = ""
    supported_devices: list[Device] = ["cpu"]
    default_device: Device = "cpu"
    additional_parameters: list[Parameter] = []
    check_importable: bool = False
    obfuscate: bool = False
    hash_module: bool = True
    hash_assets: bool = True
    load_timeout_s: float = 600.0
    num_cpus: float | None = None
    gpu_memory_bytes: int | None = None
    num_gpus: float | None = None
    min_replicas: int = 0
    max_replicas: int | None = None
    runs_per_replica: int = 1
    timeout_s: float | None = None


class AlgorithmVersion(Model):
    """One published version: its manifest and where its content is stored.

    Attributes:
        manifest: the manifest.
        source_sha256: hash over the author's files (path and content), which tells equal folders apart from others.
        module_sha256: SHA-256 of the module archive, which is its key under `modules/`.
        assets: SHA-256 of each asset by its path in the folder, which is its key under `assets/`.
        proven: devices on which a replica has loaded it.
        warnings: what publishing noticed and did not refuse.
        published_at: when it was published.
    """

    manifest: Manifest
    source_sha256: str
    module_sha256: str
    assets: dict[str, str]
    proven: list[Device] = []
    warnings: list[str] = []
    published_at: datetime | None = None


class AlgorithmInfo(Model):
    """An algorithm and its versions.

    Attributes:
        name: its name.
        current: the version that a request without one gets.
        versions: all published versions, newest version first.
        version: the current version in full.
    """

    name: str
    current: str
    versions: list[str]
    version: AlgorithmVersion


class PublishRequest(Model):
    """Content of an algorithm folder, whose files are stored as blobs already.

    Attributes:
        files: SHA-256 of each file by its path in the folder (`/`-separated, relative).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, str]


class Publication(Model):
    """How far publishing has come.

    Attributes:
        stage: what happens now, in words.
        version: the published version, once it is.
    """

    stage: str
    version: AlgorithmVersion | None = None


class RunStatus(StrEnum):
    """Where a run is: PENDING -> RUNNING -> COMPLETED | FAILED | CANCELLED."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether the run will not change any more."""
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


class RunRequest(Model):
    """What a client asks for when it submits a run.

    Attributes:
        input_dataset_ids: datasets to work on, in order.
        args: values of parameters; the others take their defaults.
        device: where to run; the algorithm's default where None.
        version: which version; the current one where None.
        timeout_s: longest time an attempt may take, the queue not counted; the algorithm's or the server's limit where
            None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_dataset_ids: list[str] = Field(max_length=10_000)
    args: dict[str, Any] = {}
    device: Device | None = None
    version: str | None = None
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class TolerantRunRequest(RunRequest):
    """A request whose unknown args are left out, with a warning in the run's log, where others are refused."""


class RunFailure(Model):
    """Why a run has no result.

    Attributes:
        code: `algorithm_error`, `cancelled`, `timeout`, `attempts_exhausted` or a problem code.
        type: class name of the exception.
        message: its message.
        traceback: the traceback in the author's code, "" where none of it was involved.
    """

    code: str
    type: str
    message: str
    traceback: str = ""


class Attempt(Model):
    """One try at a run.

    Attributes:
        number: 1 for the first one.
        replica: name of the Ray actor that worked on it.
        started_at: when it began.
        ended_at: when its end was noticed.
        outcome: how it ended; None while it goes on. `lost`: its replica died. `killed`: its replica was stopped,
            because the run had been told to stop and did not.
        reason: why it was lost.
        charged: whether it counts towards the bound on attempts; not where the server itself ended the replica.
    """

    number: int
    replica: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["completed", "failed", "cancelled", "lost", "killed"] | None = None
    reason: str = ""
    charged: bool = True


class Run(Model):
    """One execution of one algorithm version on a list of datasets.

    Attributes:
        id: UUID version 7.
        algorithm: the algorithm's name.
        version: the version that was resolved when the run was accepted.
        device: what the client asked for, None where it left that open.
        resolved_device: where it runs.
        status: where it is.
        cancel_requested: whether its cancellation was asked for; while it is RUNNING, it stops at its next call of the
            server, or soon by force.
        progress: 0 to 1; 1 once it has ended, whichever way.
        message: the latest message of its log that is the algorithm's.
        queue_position: runs of the same version on the same device ahead of it, 0 for the next one; None unless it
            waits.
        input_dataset_ids: what it works on.
        output_dataset_ids: what it made; empty unless COMPLETED.
        args: the args with all defaults filled in.
        timeout_s: longest time an attempt may take, from `started_at`.
        created_at: when it was accepted.
        started_at: when its latest attempt began.
        ended_at: when it ended.
        error: why it has no result.
        attempts: attempts begun.
        attempt_history: those of them that are known, oldest first.
    """

    id: str
    algorithm: str
    version: str
    device: Device | None = None
    resolved_device: Device
    status: RunStatus = RunStatus.PENDING
    cancel_requested: bool = False
    progress: float = 0.0
    message: str = ""
    queue_position: int | None = None
    input_dataset_ids: list[str]
    output_dataset_ids: list[str] = []
    args: dict[str, Any] = {}
    timeout_s: float | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: RunFailure | None = None
    attempts: int = 0
    attempt_history: list[Attempt] = []


class LogLine(Model):
    """One line of a run's log."""

    time: datetime
    level: LogLevel
    message: str


class RunNews(Model):
    """A run, and the lines of its log that are new."""

    run: Run
    lines: list[LogLine]


class ServerInfo(Model):
    """The server and what it can do.

    Attributes:
        name: "t3d_server".
        version: version of the package.
        devices: devices that the cluster has.
        limits: the limits in force, each named with its unit.
    """

    name: str
    version: str
    devices: list[Device]
    limits: dict[str, int | float]


class Health(Model):
    """Answer of `/healthz` and `/readyz`."""

    status: str


class ProblemItem(Model):
    """One fault of a request: where it is and what it is."""

    key: str
    message: str


class ProblemDetails(Model):
    """An error, by RFC 9457 (`application/problem+json`).

    Attributes:
        type: "about:blank": `code` tells errors apart.
        title: the error in a few words.
        status: the HTTP status.
        detail: what was wrong, where, and what to do.
        code: stable name of the error.
        errors: each single fault, where several were found at once.
        traceback: the traceback of the author's code that caused it.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemItem] = []
    traceback: str | None = None
