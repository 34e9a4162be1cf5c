"""`T3D`: the server as other Ray applications call it, through Ray instead of HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, Unpack, cast, overload

import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from t3d_server.client.bodies import SupportsArray, is_several, listed, plain
from t3d_server.client.datasets import Dataset, id_of
from t3d_server.client.handle import outputs_of
from t3d_server.client.runs import RunOptions, stored_id
from t3d_server.datasets.values import normalise
from t3d_server.errors import ServerUnavailableError
from t3d_server.models import AlgorithmInfo, DatasetInfo, Device, LogLine, Run
from t3d_server.serving.calls import unwrapped
from t3d_server.serving.router import APPLICATION_NAME

Values = SupportsArray | Mapping[str, Any]
"""What becomes a dataset: an array, which is its `image`, or values by key (arrays, numbers, text)."""

RETRY_FOR_S = 30.0
_PAUSE_S = 0.2

T = TypeVar("T")


class Reply(Generic[T]):
    """The answer to a call that is under way: `.result()` waits for it, `await` does so in async code.

    Errors are those of `t3d_server.errors`, as the server raised them. Ctrl-C in `.result()`, and cancelling what
    awaits, cancels the call, and with it the run that it waits for.
    """

    def __init__(self, send: Callable[[], Any], convert: Callable[[Any], T], *, repeatable: bool) -> None:
        self._send = send
        self._convert = convert
        self._repeatable = repeatable
        self._deadline: float | None = None
        self._response = send()

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the answer.

        Args:
            timeout_s: how long, in seconds; for ever where None.

        Raises:
            TimeoutError: there is none by then; the call goes on.
            T3dError: the error that the server raised.
            ServerUnavailableError: the server is not there, or went while it worked on the call.
        """
        while True:
            try:
                return self._convert(self._response.result(timeout_s=timeout_s))
            except KeyboardInterrupt:
                self._response.cancel()
                raise
            except (RayError, RayServeException) as error:
                self._require_retry(error)
            time.sleep(_PAUSE_S)
            self._response = self._send()

    def __await__(self) -> Generator[Any, None, T]:
        return self._awaited().__await__()

    async def _awaited(self) -> T:
        while True:
            try:
                return self._convert(await self._response)
            except asyncio.CancelledError:
                self._response.cancel()
                raise
            except (RayError, RayServeException) as error:
                self._require_retry(error)
            await asyncio.sleep(_PAUSE_S)
            self._response = self._send()

    def _require_retry(self, error: RayError | RayServeException) -> None:
        """Returns where the call may be sent again; else raises the error as callers are to see it."""
        if isinstance(error, RayTaskError):
            raise unwrapped(error) from None
        never_begun = isinstance(error, DeploymentUnavailableError)
        if not never_begun and not isinstance(error, RayActorError):
            raise error
        harmless = never_begun or self._repeatable
        self._deadline = self._deadline or time.monotonic() + RETRY_FOR_S
        if not harmless or time.monotonic() > self._deadline:
            effect = "" if harmless else "; whether the call had its effect is not known"
            raise ServerUnavailableError(f"the t3d server does not answer in this Ray cluster{effect}") from error


class T3D:
    """A t3d server in the Ray cluster that this process belongs to: the calls of `Client`, by Ray's handles.

    Each call returns at once, with a `Reply`: `t3d.run("denoise", image).result()["image"]` in a driver, a task or a
    synchronous actor, `(await t3d.run("denoise", image))["image"]` in a deployment. Arrays go through Ray's object
    store; those that come back may be read-only. Make one and keep it; it can be handed to tasks and deployments, and
    goes on working when the server's application is deployed anew.

    Raises:
        ServerUnavailableError: no t3d server runs in this cluster.
    """

    def __init__(self) -> None:
        advice = (
            "Start one by `t3d up`, and join its cluster by `ray.init()` with the environment variables that it prints."
        )
        if not ray.is_initialized():  # Serve would start a cluster of its own
            raise ServerUnavailableError(f"This process belongs to no Ray cluster, and so to no t3d server. {advice}")
        try:
            handle: Any = serve.get_app_handle(APPLICATION_NAME)
        except RayServeException as error:
            raise ServerUnavailableError(f"No t3d server runs in this Ray cluster. {advice}") from error
        self._handle = handle.options(_by_reference=True)  # by value, messages have at most 4 MB

    @overload
    def upload(self, data: Values) -> Reply[DatasetInfo]: ...

    @overload
    def upload(self, data: Sequence[Values]) -> Reply[list[DatasetInfo]]: ...

    def upload(self, data: Values | Sequence[Values]) -> Reply[DatasetInfo] | Reply[list[DatasetInfo]]:
        """Store a dataset, or several: all of them or none.

        Args:
            data: an array, which becomes `image`, of numpy or what numpy can make one of; or values by key, `axes`,
                `spacing` and `spacing_unit` of the image among them; or a list or tuple of these.

        Raises:
            InvalidDatasetError: it is no dataset; lists every key that is wrong.
        """
        stored = [_values(each) for each in cast("Sequence[Values]", listed(data))]
        return self._call(_same if is_several(data) else _only, "upload", stored)

    @overload
    def run(self, name: str, inputs: Values | Dataset, **options: Unpack[RunOptions]) -> Reply[dict[str, Any]]: ...  # type: ignore[overload-overlap]  # text is a sequence of text, but comes first

    @overload
    def run(
        self, name: str, inputs: Sequence[Values | Dataset], **options: Unpack[RunOptions]
    ) -> Reply[list[dict[str, Any]]]: ...

    def run(
        self,
        name: str,
        inputs: Values | Dataset | Sequence[Values | Dataset],
        *,
        args: Mapping[str, Any] | None = None,
        device: Device | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Reply[dict[str, Any]] | Reply[list[dict[str, Any]]]:
        """Store, run, wait and fetch, in one call.

        Args:
            name: the algorithm.
            inputs: a dataset's id or info, or what `upload` takes; or a list or tuple of those.
            args: values of the algorithm's parameters; the others take their defaults.
            device: "cpu" or "gpu"; the algorithm's default where None.
            version: the current one where None.
            timeout_s: longest time the run may take, once it has begun; the algorithm's or the server's limit where
                None.

        Returns:
            The values of the one dataset that the run made; for a list or tuple of inputs, a list of those it made.

        Raises:
            AlgorithmError: the run failed; `traceback` is that of the author's code.
            InvalidRequestError: a single input gave not one dataset; the message has their ids.
            T3dError: as `submit`.
        """
        several = is_several(inputs)

        def made(answer: tuple[Run, list[dict[str, Any]]]) -> Any:
            run, results = answer
            outputs_of(run, of_one=not several)
            return results if several else results[0]

        given = [stored_id(each) or _values(each) for each in listed(inputs)]
        return self._call(
            made, "compute", name, given, dict(args or {}), device=device, version=version, timeout_s=timeout_s
        )

    def submit(
        self,
        name: str,
        inputs: Dataset | Sequence[Dataset],
        *,
        args: Mapping[str, Any] | None = None,
        device: Device | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Reply[Run]:
        """Run an algorithm on datasets that are stored; once this is answered, the run goes on by itself.

        Args:
            name: the algorithm.
            inputs: a dataset's id or info, or a list or tuple of those.
            args: as `run`.
            device: as `run`.
            version: as `run`.
            timeout_s: as `run`.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError, DatasetNotFoundError: one of them is not there.
            InvalidArgsError: lists every arg that is wrong.
            DeviceNotSupportedError: it does not run there.
        """
        ids = _ids(inputs)
        return self._call(
            _same, "submit", name, ids, dict(args or {}), device=device, version=version, timeout_s=timeout_s
        )

    def get_run(self, run_id: str, wait_s: float = 0.0) -> Reply[Run]:
        """A run: its status, progress, latest message, error and outputs.

        Args:
            run_id: the run.
            wait_s: wait up to this long for its end, in seconds; at most 60.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return self._read(_same, "get_run", run_id, wait_s)

    def cancel(self, run_id: str) -> Reply[Run]:
        """Cancel a run: at once while it waits, else when its code next reports; one that has ended stays as it is."""
        return self._read(_same, "cancel_run", run_id)

    def log(self, run_id: str) -> Reply[list[LogLine]]:
        """The log of a run, so far."""
        return self._read(_same, "run_log", run_id)

    @overload
    def fetch(self, dataset: Dataset, keys: Sequence[str] = ()) -> Reply[dict[str, Any]]: ...  # type: ignore[overload-overlap]  # as `run`

    @overload
    def fetch(self, dataset: Sequence[Dataset], keys: Sequence[str] = ()) -> Reply[list[dict[str, Any]]]: ...

    def fetch(
        self, dataset: Dataset | Sequence[Dataset], keys: Sequence[str] = ()
    ) -> Reply[dict[str, Any]] | Reply[list[dict[str, Any]]]:
        """Values of datasets.

        Args:
            dataset: the dataset, by its info or id; or a list of those.
            keys: what to read, one key or several; everything where empty.

        Raises:
            DatasetNotFoundError: there is no such dataset.
        """
        ids = _ids(dataset)
        return self._read(_same if is_several(dataset) else _only, "fetch_data", ids, keys)

    def info(self, dataset: Dataset) -> Reply[DatasetInfo]:
        """Keys, shapes, dtypes, axes, spacing and size of a dataset."""
        return self._read(_same, "dataset_info", id_of(dataset))

    def delete(self, dataset: Dataset) -> Reply[None]:
        """Remove a dataset for good."""
        return self._call(_same, "delete_data", [id_of(dataset)])

    def algorithms(self) -> Reply[list[AlgorithmInfo]]:
        """Algorithms by name."""
        return self._read(_same, "algorithms")

    def _call(self, convert: Callable[[Any], T], method: str, *args: Any, **options: Any) -> Reply[T]:
        return Reply(partial(getattr(self._handle, method).remote, *args, **options), convert, repeatable=False)

    def _read(self, convert: Callable[[Any], T], method: str, *args: Any) -> Reply[T]:
        """A call that may be sent again though it may have had its effect."""
        return Reply(partial(getattr(self._handle, method).remote, *args), convert, repeatable=True)


def _same(answer: Any) -> Any:
    return answer


def _only(answers: list[Any]) -> Any:
    return answers[0]


def _ids(dataset: Dataset | Sequence[Dataset]) -> list[str]:
    return [id_of(each) for each in ([dataset] if isinstance(dataset, DatasetInfo | str) else dataset)]


def _values(data: Any) -> dict[str, Any]:
    """A dataset as plain values, which need no library of the caller's to be read."""
    given = data if isinstance(data, Mapping) else {"image": data}
    return dict(normalise({key: plain(value) for key, value in given.items()}))
