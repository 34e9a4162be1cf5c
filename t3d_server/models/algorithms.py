"""Wire models of algorithms: manifests, versions, and what goes in and comes out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict

from t3d_server.models.base import Device, Model

Kind = Literal["array", "text", "number", "boolean", "list", "any"]


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
        removed_versions: those that were removed, likewise; nothing but what they were can take their numbers.
        version: the current version in full.
    """

    name: str
    current: str
    versions: list[str]
    removed_versions: list[str] = []
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
