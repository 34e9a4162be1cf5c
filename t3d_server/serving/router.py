"""The router: the HTTP API and the same operations as handle methods, in one Ray Serve deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypedDict, Unpack

import ray
from ray import serve
from ray.exceptions import TaskCancelledError

from t3d_server.api.app import create_app
from t3d_server.api.backpressure import IMPORT_PATH
from t3d_server.api.bodies import Draft
from t3d_server.api.service import MAX_WAIT_S, Limits, Service
from t3d_server.api.v0.listener import listen
from t3d_server.errors import InvalidDatasetError, InvalidInputError, NotFoundError, QueueFullError, T3dError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmInfo, DatasetInfo, Device, LogLine, Run
from t3d_server.packages.registry import Registry
from t3d_server.serving.coordinator_actor import start_coordinator
from t3d_server.serving.coordinator_client import RemotePublishing, RemoteRuns
from t3d_server.serving.logs import SERVE_CONFIG, log_with_serve
from t3d_server.serving.ray_internals import ON_HEAD
from t3d_server.serving.resources import Connect

APPLICATION_NAME = "t3d"

ENVIRONMENT = {
    # For the router alone: set for the whole cluster it breaks synchronous handle calls of other applications.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": IMPORT_PATH,
    # By default, Serve writes the log only after a thousand lines.
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
}


class RunOptions(TypedDict, total=False):
    """Options of a run beside its args; see `RunRequest`."""

    device: Device | None
    version: str | None
    timeout_s: float | None


class Router:
    """Serves HTTP, and handles: `serve.get_app_handle("t3d").run.remote("denoise", ids)`; see `handles.T3D`.

    Args:
        connect: makes the resources of this process.
    """

    def __init__(self, connect: Connect) -> None:
        log_with_serve()
        resources = connect()
        ray.get(start_coordinator(connect).follow_serve.remote())  # it may be there: it outlives this process
        self._tokens, self._cors_origins = resources.tokens, resources.cors_origins
        self._service = Service(
            datasets=resources.datasets,
            registry=Registry(resources.store),
            history=resources.history,
            store=resources.store,
            runs=RemoteRuns(),
            publishing=RemotePublishing(),
            scratch=resources.scratch,
            limits=Limits(resources.max_dataset_bytes, resources.max_package_bytes, resources.run_limits.max_run_s),
        )
        if resources.v0_address is not None:
            listen(self._service, *resources.v0_address)

    def __serve_build_asgi_app__(self) -> Any:
        """The HTTP application, made once the router is."""
        return create_app(self._service, self._tokens, cors_origins=self._cors_origins)

    async def post_data(self, datasets: Sequence[Mapping[str, Any]]) -> list[str]:
        """Store datasets, all or none.

        Args:
            datasets: dictionaries of arrays and small values.

        Returns:
            Their ids, in order.
        """
        return [info.id for info in await self.upload(datasets)]

    async def upload(self, datasets: Sequence[Mapping[str, Any]]) -> list[DatasetInfo]:
        """As `post_data`; returns what was stored."""
        infos: list[DatasetInfo] = []
        try:
            for values in datasets:
                if not isinstance(values, Mapping):
                    raise InvalidDatasetError(f"datasets are dictionaries in a list, not {type(values).__name__}")
                infos.append(await self._service.add(values))
        except BaseException:
            with suppress(T3dError):
                await self.delete_data([info.id for info in infos])
            raise
        return infos

    async def fetch_data(self, dataset_ids: list[str], keys: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The datasets with these ids, in order; only the values of `keys`, or all values if `keys` is empty."""
        return [await self._service.read(dataset_id, keys) for dataset_id in dataset_ids]

    async def dataset_info(self, dataset_id: str) -> DatasetInfo:
        """The keys, shapes and small values of a dataset, without its arrays."""
        return await self._service.info(dataset_id)

    async def delete_data(self, dataset_ids: list[str]) -> None:
        """Remove datasets."""
        for dataset_id in dataset_ids:
            await self._service.delete(dataset_id)

    async def algorithms(self) -> list[AlgorithmInfo]:
        """All published algorithms."""
        return await self._service.algorithms()

    async def submit(
        self,
        algorithm: str,
        inputs: Sequence[Mapping[str, Any] | str],
        args: dict[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Submit a run; returns as soon as it is accepted.

        Args:
            algorithm: its name.
            inputs: ids of datasets, or datasets, which are stored, and removed again if the run is refused.
            args: values of its parameters.
            idempotency_key: the same ids, args and options again with the same key give the same run.
            options: see `RunOptions`.
        """
        return await self._submit(
            algorithm=algorithm,
            inputs=inputs,
            args=args,
            options=options,
            run_id=new_id(),
            idempotency_key=idempotency_key,
        )

    async def _submit(
        self,
        *,
        algorithm: str,
        inputs: Sequence[Mapping[str, Any] | str],
        args: dict[str, Any] | None,
        options: RunOptions,
        run_id: str,
        idempotency_key: str | None = None,
    ) -> Run:
        uploaded = await self.upload([item for item in inputs if not isinstance(item, str)])
        new = iter(uploaded)
        ids = [item if isinstance(item, str) else next(new).id for item in inputs]
        try:
            draft = Draft.of({"input_dataset_ids": ids, "args": {} if args is None else args, **options})
            return await self._service.submit(algorithm, draft, idempotency_key=idempotency_key, run_id=run_id)
        except (InvalidInputError, NotFoundError, QueueFullError):
            with suppress(T3dError):
                await self.delete_data([info.id for info in uploaded])
            raise

    async def run(
        self,
        algorithm: str,
        inputs: Sequence[Mapping[str, Any] | str],
        args: dict[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Submit a run and wait for its end; `status`, `error` and `output_dataset_ids` have its outcome.

        It takes what `submit` takes, without the key. Cancelling the call cancels the run.
        """
        run_id = new_id()
        try:
            run = await self._submit(algorithm=algorithm, inputs=inputs, args=args, options=options, run_id=run_id)
            while not run.status.ended:
                run = await self._service.run(run_id, wait_s=MAX_WAIT_S)
        except (asyncio.CancelledError, TaskCancelledError):  # the latter where Ray cancels calls of this one first
            with suppress(T3dError):  # it may not have been accepted
                await self._service.cancel(run_id)
            raise
        return run

    async def compute(
        self,
        algorithm: str,
        inputs: Sequence[Mapping[str, Any] | str],
        args: dict[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> tuple[Run, list[dict[str, Any]]]:
        """As `run`; returns the ended run and, if it is COMPLETED, its output datasets."""
        run = await self.run(algorithm, inputs, args, **options)
        return run, await self.fetch_data(run.output_dataset_ids)

    async def get_run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run, after waiting up to `wait_s` for its end."""
        return await self._service.run(run_id, wait_s=wait_s)

    async def cancel_run(self, run_id: str) -> Run:
        """Cancel a run."""
        return await self._service.cancel(run_id)

    async def run_log(self, run_id: str) -> list[LogLine]:
        """The log of a run."""
        return await self._service.log(run_id)


def router_application(connect: Connect) -> serve.Application:
    """The Ray Serve application of the router, at the root of the HTTP port."""
    router: Any = serve.deployment(serve.ingress()(Router))
    deployment = router.options(
        name="router",
        max_ongoing_requests=1000,
        logging_config=SERVE_CONFIG,
        ray_actor_options={"num_cpus": 0, "resources": ON_HEAD, "runtime_env": {"env_vars": ENVIRONMENT}},
    )
    application: serve.Application = deployment.bind(connect)
    return application
