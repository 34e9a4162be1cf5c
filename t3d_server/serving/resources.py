"""What every Ray process of the server works with, made anew in each from its environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t3d_server.api.auth import Role
from t3d_server.datasets.store import DatasetStore
from t3d_server.run_store.history import RunHistory
from t3d_server.runs.acceptance import RunLimits
from t3d_server.storage.base import ObjectStore

NAMESPACE = "t3d"
COORDINATOR_NAME = "t3d-coordinator"


def application_name(name: str, version: str) -> str:
    """Name of the Ray Serve application of a version, as the dashboard shows it."""
    return f"{name}-{version}"


@dataclass(frozen=True)
class PlacementDefaults:
    """Resources of replicas whose manifest does not set them.

    Attributes:
        num_cpus: logical CPUs a replica reserves.
        num_gpus: share of a GPU a `gpu` replica reserves.
        gpu_memory_bytes: memory of one GPU; None asks the device.
        max_replicas: most replicas of an algorithm on one device.
        idle_s: time without a run after which it scales down.
        longest_run_s: how long a run may take, until it is ended by force.
    """

    num_cpus: float
    num_gpus: float
    gpu_memory_bytes: int | None
    max_replicas: int
    idle_s: float
    longest_run_s: float


@dataclass(frozen=True)
class Resources:
    """What a process of the server works with.

    Attributes:
        store: the object store.
        datasets: the datasets in it.
        history: the ended runs in it.
        cache: folder for modules and assets, shared by the replicas of a node.
        scratch: folder for files on their way to the store.
        placement: resources of replicas.
        run_limits: what runs may take.
        keep_keys_s: how long an idempotency key stands for its run.
        tokens: role of each valid token; None turns authentication off.
        tags: tags of each algorithm type.
        max_dataset_bytes: largest dataset.
        max_package_bytes: largest package.
        max_package_files: most files in a package.
        cors_origins: origins whose pages browsers let use the HTTP API; "*" for all.
        v0_address: host and port of the v0 API without a token; None where it is off.
    """

    store: ObjectStore
    datasets: DatasetStore
    history: RunHistory
    cache: Path
    scratch: Path
    placement: PlacementDefaults
    run_limits: RunLimits
    keep_keys_s: float
    tokens: Mapping[str, Role] | None
    tags: Mapping[str, Mapping[str, str]]
    max_dataset_bytes: int
    max_package_bytes: int
    max_package_files: int
    cors_origins: Sequence[str] = ()
    v0_address: tuple[str, int] | None = None


Connect = Callable[[], Resources]
"""Makes the resources of a process from its environment.

Ray ships it by reference, so that no credential is part of what Ray stores.
"""
