"""Starts a Ray cluster of one node, and the server on it; what fails of that becomes an error of this package."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3d_server.errors import ServerUnavailableError, T3dError

if TYPE_CHECKING:
    from t3d_server.serving.resources import Connect

logger = logging.getLogger(__name__)

RELEASE_TIMEOUT_S = 15.0
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # each replica has a port on all interfaces
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # Ray's own ports listen on all interfaces, unless the node's address is loopback; and Ray turns 127.0.0.1 into
    # another address of the machine, unless this variable says that no other node can join.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""What Ray and Ray Serve read of a local server's environment, beside HAProxy's part."""


def start_cluster(
    connect: Connect,
    *,
    host: str,
    port: int,
    dashboard_port: int,
    num_cpus: int | None,
    num_gpus: int | None,
    log: Path,
    cleanup: ExitStack,
    on_step: Callable[[str], None],
) -> tuple[str, str]:
    """Start Ray, Ray Serve, the coordinator and the router.

    Ray and Ray Serve read `os.environ` when they are first imported, which is here.

    Args:
        connect: makes the resources of the server's processes.
        host: address that the HTTP API listens on.
        port: its port.
        dashboard_port: port of Ray's dashboard; where it is taken, the next free one.
        num_cpus: logical CPUs of the node; None counts the cores.
        num_gpus: logical GPUs of the node; None finds them.
        log: file for the traceback, if the start fails.
        cleanup: gets the steps that stop the server, also if the start fails half-way.
        on_step: is called with the name of each step before it; an exception that it raises ends the start.

    Returns:
        Ray's address, and the URL of the dashboard.

    Raises:
        ServerUnavailableError: a part of the server cannot be started.
    """
    # Ray's signal handler would replace that of this process, and answer SIGTERM with a stack trace. Replicas need it:
    # there it reports where C code crashed.
    os.environ["RAY_DISABLE_FAILURE_SIGNAL_HANDLER"] = "1"
    import ray
    from ray import serve

    del os.environ["RAY_DISABLE_FAILURE_SIGNAL_HANDLER"]

    from t3d_server.serving.coordinator_actor import start_coordinator
    from t3d_server.serving.logs import SERVE_CONFIG
    from t3d_server.serving.ray_internals import ON_LOOPBACK, set_dashboard_port
    from t3d_server.serving.router import APPLICATION_NAME, router_application

    with suppress(FileNotFoundError):  # an earlier Ray wrote it with the umask of the user
        (Path.home() / ".ray" / "auth_token").chmod(0o600)
    with _as_own_errors(log):
        on_step("starting Ray")
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        set_dashboard_port(dashboard_port)  # a port that was found free before might be taken by then
        cleanup.callback(ray.shutdown)  # of a start that fails half-way too
        context = ray.init(
            address="local",  # whatever RAY_ADDRESS names
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            dashboard_host="127.0.0.1",
            include_dashboard=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **ON_LOOPBACK,
        )
        on_step("starting the server")
        serve.start(http_options={"host": host, "port": port}, logging_config=SERVE_CONFIG)
        coordinator = start_coordinator(connect)
        cleanup.callback(_release, coordinator)
        on_step("starting the router")
        serve.run(router_application(connect), name=APPLICATION_NAME)
        ray.get(coordinator.ready.remote())
        return ray.get_runtime_context().gcs_address, f"http://{context.dashboard_url}"


@contextmanager
def _as_own_errors(log: Path) -> Iterator[None]:
    """Turn each exception into an error of this package, and write its traceback into a file."""
    try:
        yield
    except T3dError:
        raise
    except Exception as error:
        cause = getattr(error, "cause", None)  # that of an error in another process of Ray's
        if isinstance(cause, T3dError):
            raise cause from error
        log.write_text(traceback.format_exc())
        *_, reason = f"{type(error).__name__}: {error}".strip().splitlines()
        raise ServerUnavailableError(
            f"Ray, or the server on it, cannot be started: {reason}\n"
            f"The traceback is in {log}, the logs of Ray's processes are in /tmp/ray/session_latest/logs. "
            "Check that there is free memory, and free space in /tmp and /dev/shm; then start the server again."
        ) from error


def _release(coordinator: Any) -> None:
    """Leave open runs to the next server on this store, so that it need not wait for a lease to expire."""
    import ray

    try:
        ray.get(coordinator.release.remote(), timeout=RELEASE_TIMEOUT_S)
    except ray.exceptions.RayError as error:
        logger.warning("the next server takes open runs over with a delay of some seconds: %s", error)
