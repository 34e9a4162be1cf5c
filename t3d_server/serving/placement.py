"""Where replicas run and what they reserve."""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from t3d_server.models import Device, Manifest
from t3d_server.serving.logs import SERVE_CONFIG
from t3d_server.serving.ray_internals import LOAD_REPORTS
from t3d_server.serving.resources import PlacementDefaults

logger = logging.getLogger("ray.serve")

GPU_ANSWER_S = 60.0
LEAST_SHARE = 0.0001
MARGIN_S = 60.0
"""Time between the longest run and the forced end of a replica that is being shut down."""
HEALTH_CHECK_S = 2.0
"""Period of the checks by which Serve notices that a replica has died; it starts another one then."""

PATIENCE_S = 600
"""Time-out of a health check: C code that holds the GIL cannot answer, and works all the same."""


def cluster_devices() -> list[Device]:
    """The kinds of device that the cluster has."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return ["cpu", "gpu"] if resources.get("GPU", 0) > 0 else ["cpu"]


def node_that_lacks(num_cpus: float, num_gpus: float) -> str | None:
    """The node that the cluster lacks for a replica which reserves this; None where it has one. Blocks."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    there = [node["Resources"] for node in nodes if node["Alive"]]
    if any(each.get("CPU", 0) >= num_cpus and each.get("GPU", 0) >= num_gpus for each in there):
        return None
    return f"a node with {num_cpus:g} CPU" + (f" and {num_gpus:g} GPU" if num_gpus else "")


def most_replicas(manifest: Manifest, defaults: PlacementDefaults) -> int:
    """Most replicas of a version on one device."""
    return max(manifest.max_replicas or defaults.max_replicas, manifest.min_replicas)


def gpu_share(manifest: Manifest, defaults: PlacementDefaults, gpu_memory_bytes: int | None) -> float:
    """How much of a GPU a replica reserves, to the four digits that Ray counts.

    Args:
        manifest: the version's manifest.
        defaults: what holds for values that the manifest does not set.
        gpu_memory_bytes: memory of one GPU; None where it is unknown.

    Returns:
        A share of one GPU, or a whole number of them.
    """
    if manifest.num_gpus is not None:
        return manifest.num_gpus
    if manifest.gpu_memory_bytes is None or gpu_memory_bytes is None:
        return defaults.num_gpus
    return min(max(round(manifest.gpu_memory_bytes / gpu_memory_bytes, 4), LEAST_SHARE), 1.0)


def deployment_options(
    manifest: Manifest, device: Device, defaults: PlacementDefaults, gpu_memory_bytes: int | None
) -> dict[str, Any]:
    """Options of the Ray Serve deployment that runs a version on a device; the arguments are those of `gpu_share`."""
    num_cpus = defaults.num_cpus if manifest.num_cpus is None else manifest.num_cpus
    actor_options: dict[str, Any] = {"num_cpus": num_cpus}
    if device == "gpu":
        share = gpu_share(manifest, defaults, gpu_memory_bytes)
        actor_options |= {"num_gpus": share, "runtime_env": {"env_vars": {}}}
    else:
        # Ray hides GPUs only from actors that reserve none *and* have this variable.
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
            **LOAD_REPORTS,
            "downscale_delay_s": defaults.idle_s,
            "downscale_to_zero_delay_s": defaults.idle_s,
        },
        # Scale-down does not choose idle replicas: the replica gets the time to end its run.
        "graceful_shutdown_timeout_s": defaults.longest_run_s + MARGIN_S,
        "health_check_period_s": HEALTH_CHECK_S,
        "health_check_timeout_s": PATIENCE_S,
        "logging_config": SERVE_CONFIG,
    }


def ask_gpu_memory_bytes() -> int | None:
    """Memory of the smallest GPU of the cluster; None if there is none, or no answer in time. Blocks."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    having = [node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("GPU", 0) > 0]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in having]
    answers = [_gpu_memory_bytes.options(scheduling_strategy=place).remote() for place in places]
    try:
        answered: list[int | None] = ray.get(answers, timeout=GPU_ANSWER_S)
    except ray.exceptions.RayError:
        logger.exception("the memory of a GPU could not be asked")
        for answer in answers:
            ray.cancel(answer, force=True)
        return None
    return min((memory_bytes for memory_bytes in answered if memory_bytes is not None), default=None)


# It reserves no GPU, since all of it may be reserved already; Ray hides GPUs only from tasks whose environment says so.
# Its process ends with it, and frees the memory that torch uses of the GPU.
@ray.remote(num_gpus=0, num_cpus=0, max_calls=1, max_retries=0)
def _gpu_memory_bytes() -> int | None:
    """Memory of the smallest GPU of this node; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    memory_bytes = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    return min(memory_bytes, default=None)
