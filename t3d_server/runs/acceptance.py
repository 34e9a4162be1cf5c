"""Turns what a client asks for into a run, or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection

from t3d_server.errors import DeviceNotSupportedError, InvalidRequestError
from t3d_server.models import Device, Manifest, Run, RunRequest, utc_now
from t3d_server.packages.parameters import resolve_args


def accept(manifest: Manifest, request: RunRequest, devices: Collection[Device], run_id: str) -> tuple[Run, list[str]]:
    """Make a run from a request.

    Args:
        manifest: that of the version to run.
        request: what the client asks for.
        devices: devices that the cluster has.
        run_id: id of the run.

    Returns:
        The run, PENDING, its args complete; and warnings for its log.

    Raises:
        InvalidArgsError: args do not fit the parameters.
        DeviceNotSupportedError: the algorithm does not run on the device, or the cluster lacks it.
        InvalidRequestError: the request asks for what this server does not do.
    """
    if request.timeout_s is not None:
        raise InvalidRequestError("timeout_s: this server does not limit run times yet; leave it out")
    device, warnings = _resolve_device(manifest, request.device, devices)
    run = Run(
        id=run_id,
        algorithm=manifest.name,
        version=manifest.version,
        device=request.device,
        resolved_device=device,
        input_dataset_ids=request.input_dataset_ids,
        args=resolve_args(manifest.additional_parameters, request.args),
        created_at=utc_now(),
    )
    return run, warnings


def _resolve_device(
    manifest: Manifest, asked: Device | None, available: Collection[Device]
) -> tuple[Device, list[str]]:
    device = asked or manifest.default_device
    name = f"{manifest.name} {manifest.version}"
    if device not in manifest.supported_devices:
        supported = ", ".join(manifest.supported_devices)
        raise DeviceNotSupportedError(f"{name} does not run on {device!r}; it supports: {supported}")
    if device in available:
        return device, []
    if asked is None and "cpu" in manifest.supported_devices:
        return "cpu", [f"the cluster has no {device}, the default device of {name}: it runs on the cpu"]
    raise DeviceNotSupportedError(f"{name} is to run on {device!r}, but the cluster has none")
