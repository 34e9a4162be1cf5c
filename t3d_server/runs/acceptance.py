"""Turns what a client asks for into a run, or says what is wrong with it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.errors import DeviceNotSupportedError, Faults, InvalidRequestError, Problem
from t3d_server.models import Device, Manifest, Run, RunRequest, TolerantRunRequest
from t3d_server.packages.parameters import resolve_args


@dataclass(frozen=True)
class RunLimits:
    """What a server allows.

    Attributes:
        max_run_s: longest time an attempt may take.
        cancel_grace_s: time that a run which is told to stop has; then its replica is ended.
        max_queued: most runs that wait, of all algorithms.
        max_queued_per_algorithm: most runs that wait for one algorithm.
    """

    max_run_s: float
    cancel_grace_s: float
    max_queued: int
    max_queued_per_algorithm: int


def accept(
    manifest: Manifest,
    request: RunRequest,
    devices: Collection[Device],
    run_id: str,
    max_run_s: float = math.inf,
    where: str = "the cluster",
    now: datetime | None = None,
) -> tuple[Run, list[str]]:
    """Make a run from a request.

    Args:
        manifest: that of the version to run.
        request: what the client asks for.
        devices: devices that the cluster has.
        run_id: id of the run.
        max_run_s: longest time an attempt may take on this server.
        where: how messages call what has the devices.
        now: when it is accepted.

    Returns:
        The run, PENDING, its args complete; and warnings for its log.

    Raises:
        InvalidArgsError: args do not fit the parameters.
        DeviceNotSupportedError: the algorithm does not run on the device, or the cluster lacks it.
        InvalidRequestError: the run is to take longer than it may, has too few or too many inputs, or several things
            are wrong with it: all are told.
    """
    args, ignored = request.args, list[str]()
    if isinstance(request, TolerantRunRequest):
        known = {parameter.name for parameter in manifest.additional_parameters}
        ignored = [name for name in args if name not in known]
        args = {name: value for name, value in args.items() if name in known}
    faults = Faults()
    with faults.at("timeout_s"):
        _check_timeout(request.timeout_s, max_run_s)
    with faults.at("input_dataset_ids"):
        _check_count(manifest, len(request.input_dataset_ids))
    with faults.at("device"):
        device, warnings = _resolve_device(manifest, request.device, devices, where)
    with faults.at("args"):
        args = resolve_args(manifest.additional_parameters, args)
    faults.raise_if_any()
    run = Run(
        id=run_id,
        algorithm=manifest.name,
        version=manifest.version,
        device=request.device,
        resolved_device=device,
        input_dataset_ids=request.input_dataset_ids,
        args=args,
        timeout_s=request.timeout_s or min(manifest.timeout_s or max_run_s, max_run_s),
        created_at=now or SYSTEM_CLOCK.now(),
    )
    return run, warnings + [f"args.{name:.80}: unknown and ignored" for name in ignored]


def request_sha256(algorithm: str, request: RunRequest) -> str:
    """Hash of what is asked for, to tell whether the same is asked for again."""
    return hashlib.sha256(f"{algorithm}\n{request.model_dump_json()}".encode()).hexdigest()


def _check_timeout(timeout_s: float | None, max_run_s: float) -> None:
    if timeout_s is not None and timeout_s > max_run_s:
        message = f"found {timeout_s:g}, but a run may take at most {max_run_s:g} s here (T3D_MAX_RUN_S)"
        raise InvalidRequestError("The run is to take too long.", problems=[Problem("timeout_s", message)])


def _check_count(manifest: Manifest, count: int) -> None:
    """Of a version that does not tell how many datasets it takes, any number is right."""
    if manifest.inputs is None:
        return
    fewest, most = manifest.inputs.min_datasets, manifest.inputs.max_datasets
    if count < fewest or (most is not None and count > most):
        allowed = f"{fewest} or more" if most is None else f"{fewest}" if fewest == most else f"{fewest} to {most}"
        message = f"found {count} datasets, {manifest.name} {manifest.version} takes {allowed}"
        raise InvalidRequestError("Wrong number of inputs.", problems=[Problem("input_dataset_ids", message)])


def _resolve_device(
    manifest: Manifest, asked: Device | None, available: Collection[Device], where: str
) -> tuple[Device, list[str]]:
    device = asked or manifest.default_device
    name = f"{manifest.name} {manifest.version}"
    if device not in manifest.supported_devices:
        supported = ", ".join(manifest.supported_devices)
        raise DeviceNotSupportedError(f"{name} does not run on {device!r}; it supports: {supported}")
    if device in available:
        return device, []
    if asked is None and "cpu" in manifest.supported_devices:
        return "cpu", [f"{where} has no {device}, the default device of {name}: it runs on the cpu"]
    raise DeviceNotSupportedError(f"{name} is to run on {device!r}, but {where} has none")
