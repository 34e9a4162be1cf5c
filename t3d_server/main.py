"""Composition root: settings become a store, services and a Ray cluster."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.datasets.store import DatasetStore
from t3d_server.discovery import ServerState, ensure_token, sole_server, state_directory, write_server
from t3d_server.errors import InvalidRequestError, StoreUnavailableError
from t3d_server.serving import reaper
from t3d_server.serving.cluster import ENVIRONMENT, start_cluster
from t3d_server.serving.haproxy import haproxy_environment
from t3d_server.settings import SETTINGS_FILE, Settings, load_settings
from t3d_server.storage.embedded import EmbeddedStore
from t3d_server.storage.s3 import S3Location, S3ObjectStore

if TYPE_CHECKING:
    from ray.serve import Application

    from t3d_server.serving.resources import Resources

logger = logging.getLogger(__name__)

STORE_CHECK_S = 1.0
WHERE = (
    "settings are T3D_* variables in the environment in which Ray is started on each node, "
    "or lines of the file that T3D_SETTINGS_FILE names there"
)


def connect() -> Resources:
    """The resources of this process, by the settings in its environment.

    Raises:
        InvalidRequestError: settings cannot be used, or are missing.
    """
    from t3d_server.api.auth import Role
    from t3d_server.run_store.history import RunHistory
    from t3d_server.runs.acceptance import RunLimits
    from t3d_server.serving.resources import PlacementDefaults, Resources

    settings = load_settings()
    needed = ["s3_endpoint", "s3_access_key", "s3_secret_key", *(["tokens"] if settings.auth == "on" else [])]
    if missing := [f"T3D_{name.upper()}" for name in needed if not getattr(settings, name)]:
        raise InvalidRequestError(f"{', '.join(missing)} must be set on {socket.gethostname()}: {WHERE}")
    for library in ("urllib3", "tifffile"):  # they log warnings of errors that the caller gets anyway
        logging.getLogger(library).setLevel(logging.ERROR)
    store = S3ObjectStore(_location(settings))
    scratch = settings.scratch_dir or Path(tempfile.gettempdir())
    scratch.mkdir(parents=True, exist_ok=True)
    return Resources(
        store=store,
        datasets=DatasetStore(
            store,
            scratch=scratch,
            max_dataset_bytes=settings.max_dataset_bytes,
            keep_s=settings.keep_datasets_s,
        ),
        history=RunHistory(store, keep_s=settings.keep_runs_s, keep_logs_s=settings.keep_logs_s),
        cache=settings.cache_dir or state_directory() / "cache",
        scratch=scratch,
        placement=PlacementDefaults(
            num_cpus=settings.replica_num_cpus,
            num_gpus=settings.replica_num_gpus,
            gpu_memory_bytes=settings.gpu_memory_bytes,
            max_replicas=settings.max_replicas,
            idle_s=settings.idle_s,
            longest_run_s=settings.max_run_s + settings.cancel_grace_s,
        ),
        run_limits=RunLimits(
            max_run_s=settings.max_run_s,
            cancel_grace_s=settings.cancel_grace_s,
            max_queued=settings.max_queued_runs,
            max_queued_per_algorithm=settings.max_queued_runs_per_algorithm,
        ),
        keep_keys_s=settings.keep_keys_s,
        tokens={token: Role(role) for token, role in settings.tokens.items()} if settings.auth == "on" else None,
        tags=load_tags(settings.tags_file),
        max_dataset_bytes=settings.max_dataset_bytes,
        max_package_bytes=settings.max_package_bytes,
        max_package_files=settings.max_package_files,
        cors_origins=settings.cors_origins,
        v0_address=None if settings.v0_port is None else (settings.v0_host, settings.v0_port),
    )


def application(args: dict[str, Any]) -> Application:
    """The server as a Ray Serve application, for `serve deploy` on a running cluster.

    Args:
        args: `args` of the Serve config; must be empty, since the coordinator and the replicas do not get them.

    Raises:
        InvalidRequestError: it is not empty, or the `env_vars` have settings, which would have no effect.
    """
    _refuse("args", args)
    import ray

    from t3d_server.serving.router import router_application

    if ray.is_initialized():  # Serve calls this in a task that has the `runtime_env` of the config
        _refuse("env_vars", ray.get_runtime_context().runtime_env.get("env_vars", {}), prefix="T3D_")
    return router_application(connect)


def _refuse(part: str, found: Iterable[str], prefix: str = "") -> None:
    if names := sorted(name for name in found if name.startswith(prefix)):
        raise InvalidRequestError(f"`{part}` of the Serve config must not have {', '.join(names)}: {WHERE}")


@contextmanager
def local_server(settings: Settings, on_step: Callable[[str], None] = logger.info) -> Iterator[ServerState]:
    """Run everything on this machine: the store unless settings name one, a Ray cluster, coordinator and router.

    Args:
        settings: the options.
        on_step: is called with the name of each step before it; an exception that it raises ends the start.

    Yields:
        The addresses of the server, once it serves. Leaving the context stops everything.

    Raises:
        StoreUnavailableError: the store cannot be reached or started.
        InvalidRequestError: the port is taken, or another server has this state directory.
        ServerUnavailableError: Ray, or the server on it, cannot be started.
    """
    with ExitStack() as cleanup:
        cleanup.enter_context(sole_server())
        _check_port(settings.host, settings.port, "T3D_PORT")
        if settings.v0_port is not None:
            _check_port(settings.v0_host, settings.v0_port, "T3D_V0_PORT")
        _raise_open_files_limit()
        cleanup.callback(os.umask, os.umask(0o077))  # only this user may read what authors print, and Ray's token
        location = _start_store(settings, cleanup, on_step)
        instance = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="t3d-")))
        cleanup.enter_context(_reaped(instance))
        os.environ |= _store_environment(location) | ENVIRONMENT | haproxy_environment(instance)
        if settings.auth == "on":
            os.environ["T3D_TOKENS"] = json.dumps({**settings.tokens, ensure_token(): "admin"})
        if file := os.environ.get(SETTINGS_FILE):  # Ray's processes have working directories of their own
            os.environ[SETTINGS_FILE] = str(Path(file).absolute())
        ray_address, dashboard_url = start_cluster(
            connect,
            host=settings.host,
            port=settings.port,
            dashboard_port=settings.dashboard_port,
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            log=state_directory() / "start.log",
            cleanup=cleanup,
            on_step=on_step,
        )
        state = ServerState(
            url=f"http://{_reachable(settings.host)}:{settings.port}",
            dashboard_url=dashboard_url,
            ray_address=ray_address,
            pid=os.getpid(),
        )
        write_server(state)
        yield state


def _start_store(settings: Settings, cleanup: ExitStack, on_step: Callable[[str], None]) -> S3Location:
    """Start the store and keep it running, or check that the one of the settings works."""
    if settings.s3_endpoint is not None:
        location = _location(settings)
        on_step(f"looking for the object store at {location.endpoint}")
        S3ObjectStore(location).prepare()
        return location
    on_step("starting the object store")
    embedded = cleanup.enter_context(EmbeddedStore(state_directory() / "store", bucket=settings.s3_bucket))
    cleanup.enter_context(_kept_running(embedded))
    return embedded.location


@contextmanager
def _reaped(instance: Path) -> Iterator[None]:
    """If this process is killed, end the processes of the cluster that are left."""
    if sys.platform != "linux":
        yield  # there is no /proc, and no HAProxy
        return
    command = [sys.executable, "-I", "-S", reaper.__file__, str(instance)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


@contextmanager
def _kept_running(store: EmbeddedStore) -> Iterator[None]:
    """Start the store again whenever its process has died."""
    leaving = threading.Event()

    def watch() -> None:
        while not leaving.wait(STORE_CHECK_S):
            if not store.is_running():
                logger.warning("the embedded object store has died and is started again")
                try:
                    store.start()
                except StoreUnavailableError as error:
                    logger.warning("its start failed, and it is tried again: %s", error)

    thread = threading.Thread(target=watch, name="embedded-store-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()


def _store_environment(location: S3Location) -> dict[str, str]:
    """The store's location for the processes that Ray starts, which inherit this environment."""
    return {
        "T3D_S3_ENDPOINT": location.endpoint,
        "T3D_S3_ACCESS_KEY": location.access_key,
        "T3D_S3_SECRET_KEY": location.secret_key,
        "T3D_S3_BUCKET": location.bucket,
        "T3D_S3_SECURE": str(location.secure),
        "T3D_S3_REGION": location.region,
    }


def _location(settings: Settings) -> S3Location:
    return S3Location(
        endpoint=settings.s3_endpoint or "",
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        secure=settings.s3_secure,
        public_endpoint=settings.s3_public_endpoint or "",
    )


def _check_port(host: str, port: int, setting: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidRequestError(
                f"port {port} on {host} cannot be used ({error.strerror}): "
                f"set {setting} to another one, or stop what uses it"
            ) from error


def _raise_open_files_limit() -> None:
    """Allow as many open files as the system does: each mapped array and each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # the limit of macOS is infinite, but cannot be set
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _reachable(host: str) -> str:
    """An address by which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
