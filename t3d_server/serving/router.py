"""The router: the HTTP API and the same operations as handle methods, in one Ray Serve deployment."""

from __future__ import annotations

from typing import Any

from ray import serve

from t3d_server.api.app import create_app
from t3d_server.api.backpressure import IMPORT_PATH
from t3d_server.api.service import Limits, Service
from t3d_server.models import AlgorithmInfo, DatasetInfo, LogLine, Run, RunRequest
from t3d_server.packages.registry import Registry
from t3d_server.runs.records import RunRecords
from t3d_server.serving.calls import CoordinatorClient
from t3d_server.serving.resources import Connect

APPLICATION_NAME = "t3d"

ENVIRONMENT = {
    # For the router alone: set for the whole cluster it breaks synchronous handle calls of other applications.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": IMPORT_PATH,
}


class Router:
    """Serves HTTP, and handles: `serve.get_app_handle("t3d").run.remote("denoise", ids)`.

    Args:
        connect: makes the resources of this process.
    """

    def __init__(self, connect: Connect) -> None:
        resources = connect()
        self._tokens = resources.tokens
        self._service = Service(
            datasets=resources.datasets,
            registry=Registry(resources.store),
            records=RunRecords(resources.store),
            store=resources.store,
            coordinator=CoordinatorClient(),
            scratch=resources.scratch,
            limits=Limits(resources.max_dataset_bytes, resources.max_package_bytes),
        )

    def __serve_build_asgi_app__(self) -> Any:
        """The HTTP application, made once the router is."""
        return create_app(self._service, self._tokens)

    async def post_data(self, datasets: list[dict[str, Any]]) -> list[str]:
        """Store datasets.

        Args:
            datasets: dictionaries of arrays and small values.

        Returns:
            Their ids, in order.
        """
        return [(await self._service.add(values)).id for values in datasets]

    async def fetch_data(self, dataset_ids: list[str]) -> list[dict[str, Any]]:
        """The datasets with these ids, in order."""
        return [await self._service.read(dataset_id) for dataset_id in dataset_ids]

    async def dataset_info(self, dataset_id: str) -> DatasetInfo:
        """What is known of a dataset without reading its arrays."""
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
        input_dataset_ids: list[str],
        args: dict[str, Any] | None = None,
        *,
        device: Any = None,
        version: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Submit a run; returns as soon as it is accepted. The same again with the same key gives the same run."""
        request = RunRequest(
            input_dataset_ids=input_dataset_ids, args=args or {}, device=device, version=version, timeout_s=timeout_s
        )
        return await self._service.submit(algorithm, request, idempotency_key=idempotency_key)

    async def run(
        self,
        algorithm: str,
        input_dataset_ids: list[str],
        args: dict[str, Any] | None = None,
        *,
        device: Any = None,
        version: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Submit a run and wait for its end; `status`, `error` and `output_dataset_ids` tell how it went."""
        run = await self.submit(
            algorithm,
            input_dataset_ids,
            args,
            device=device,
            version=version,
            timeout_s=timeout_s,
            idempotency_key=idempotency_key,
        )
        while not run.status.ended:
            run = await self._service.run(run.id, wait_s=60)
        return run

    async def get_run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run, after waiting up to `wait_s` for its end."""
        return await self._service.run(run_id, wait_s=wait_s)

    async def cancel_run(self, run_id: str) -> Run:
        """Cancel a run."""
        return await self._service.cancel(run_id)

    async def run_log(self, run_id: str) -> list[LogLine]:
        """The log of a run."""
        return await self._service.log(run_id)


def start_router(connect: Connect) -> None:
    """Deploy the router at the root of the HTTP port; returns once it serves."""
    router: Any = serve.deployment(serve.ingress()(Router))
    deployment = router.options(
        name="router",
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": ENVIRONMENT}},
    )
    serve.run(deployment.bind(connect), name=APPLICATION_NAME, route_prefix="/")
