"""Where replicas run and what they reserve."""

from __future__ import annotations

from typing import Any

import ray

from t3d_server.errors import LoadFailedError
from t3d_server.models import Device, Manifest
from t3d_server.serving.resources import PlacementDefaults

LONGEST_RUN_S = 7 * 24 * 3600
"""Scale-down does not choose idle replicas, so that one which must go is given the time to end its run."""

PATIENCE_S = 600
"""A health check waits this long: C code that holds the GIL cannot answer, and is not ill."""


def cluster_devices() -> list[Device]:
    """The kinds of device that the cluster has."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return ["cpu", "gpu"] if resources.get("GPU", 0) > 0 else ["cpu"]


def most_replicas(manifest: Manifest, defaults: PlacementDefaults) -> int:
    """Most replicas of a version on one device."""
    return max(manifest.max_replicas or defaults.max_replicas, manifest.min_replicas)


def gpu_share(manifest: Manifest, defaults: PlacementDefaults) -> float:
    """The share of one GPU that a replica reserves, to the four digits that Ray counts.

    Raises:
        LoadFailedError: the manifest asks for more memory than the GPU has.
    """
    if manifest.num_gpus is not None:
        return manifest.num_gpus
    if manifest.gpu_memory_bytes is None:
        return defaults.num_gpus
    total = defaults.gpu_memory_bytes or ray.get(_gpu_memory_bytes.remote())
    if total is None:
        return defaults.num_gpus
    share: float = round(manifest.gpu_memory_bytes / total, 4)
    if share > 1:
        raise LoadFailedError(
            f"{manifest.name} {manifest.version} asks for {manifest.gpu_memory_bytes} bytes of GPU memory, "
            f"but a GPU has {total}"
        )
    return max(share, 0.0001)


def deployment_options(manifest: Manifest, device: Device, defaults: PlacementDefaults) -> dict[str, Any]:
    """Options of the Ray Serve deployment that runs a version on a device."""
    actor_options: dict[str, Any] = {"num_cpus": manifest.num_cpus or defaults.num_cpus}
    if device == "gpu":
        actor_options |= {"num_gpus": gpu_share(manifest, defaults), "runtime_env": {"env_vars": {}}}
    else:
        # Ray hides GPUs only from actors that ask for none *and* are told so.
        actor_options |= {"num_gpus": 0, "runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}
    return {
        "name": device,
        "ray_actor_options": actor_options,
        "max_ongoing_requests": manifest.runs_per_replica,
        "autoscaling_config": {
            "min_replicas": manifest.min_replicas,
            "max_replicas": most_replicas(manifest, defaults),
            "target_ongoing_requests": manifest.runs_per_replica,
            "upscale_delay_s": 1.0,
            "look_back_period_s": 2.0,
            "metrics_interval_s": 1.0,
            "downscale_delay_s": defaults.idle_s,
            "downscale_to_zero_delay_s": defaults.idle_s,
        },
        "graceful_shutdown_timeout_s": LONGEST_RUN_S,
        "health_check_period_s": 10,
        "health_check_timeout_s": PATIENCE_S,
    }


@ray.remote(num_gpus=0.0001, num_cpus=0)
def _gpu_memory_bytes() -> int | None:
    """Memory of a GPU of the cluster; None where torch cannot tell."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
