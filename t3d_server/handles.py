"""`T3D`: the server as other Ray applications call it, through Ray instead of HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Generic, TypeVar, Unpack, overload

import numpy as np
import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException, RequestCancelledError

from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.client.bodies import SupportsArray, is_several, labelled, naming, values_of, warn_of_colour
from t3d_server.client.connection import json_of
from t3d_server.client.datasets import Dataset, id_of, ids_of
from t3d_server.client.run_handle import outputs_of
from t3d_server.client.runs import RunOptions, checked_args, checked_key, stored_id
from t3d_server.datasets.values import normalise
from t3d_server.errors import InvalidDatasetError, ServerUnavailableError
from t3d_server.models import AlgorithmInfo, DatasetInfo, Device, LogLine, Run
from t3d_server.serving.coordinator_client import unwrapped
from t3d_server.serving.ray_internals import BY_REFERENCE
from t3d_server.serving.router import APPLICATION_NAME

Values = SupportsArray | Mapping[str, Any]
"""Data for a dataset: an array, which becomes its `image`, or values by key (arrays, numbers, text)."""

RETRY_FOR_S = 30.0
_PAUSE_S = 0.2

T = TypeVar("T")


class Reply(Generic[T]):
    """The answer to a call: `.result()` waits for it, or `await` in async code.

    Errors are those of `t3d_server.errors`, as the server raised them. `cancel`, Ctrl-C in `.result()`, and cancelling
    what awaits all cancel the call, and with it the run that it waits for.
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
            TimeoutError: there is no answer by then; the call goes on.
            T3dError: the error that the server raised.
            ServerUnavailableError: the server is not there, or ended while it worked on the call.
            concurrent.futures.CancelledError: the call was cancelled.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return self._convert(self._response.result(timeout_s=left_s))
            except KeyboardInterrupt:
                self.cancel()
                raise
            except TimeoutError:
                message = f"there is no answer after {timeout_s:g} s; the call goes on: ask for its result again"
                raise TimeoutError(message) from None
            except (RayError, RayServeException) as error:
                self._require_retry(error)
            time.sleep(_PAUSE_S)
            self._response = self._send()

    def cancel(self) -> None:
        """Cancel the call, and with it the run that it waits for; without effect once it is answered."""
        self._response.cancel()

    def __await__(self) -> Generator[Any, None, T]:
        return self._awaited().__await__()

    async def _awaited(self) -> T:
        while True:
            try:
                return self._convert(await self._response)
            except asyncio.CancelledError:
                self.cancel()
                raise
            except (RayError, RayServeException) as error:
                self._require_retry(error)
            await asyncio.sleep(_PAUSE_S)
            self._response = self._send()

    def _require_retry(self, error: RayError | RayServeException) -> None:
        """Return if the call may be sent again; else raise the error for the caller."""
        if isinstance(error, RequestCancelledError):
            raise CancelledError("the call was cancelled, and with it the run that it waited for") from None
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
    store; those that come back may be read-only. Make one and keep it; it can be passed to tasks and deployments, and
    still works after the server's application was deployed again.

    Raises:
        ServerUnavailableError: no t3d server runs in this cluster.
    """

    def __init__(self) -> None:
        advice = (
            "Start one by `t3d up`, and join its cluster by `ray.init()` with the environment variables that it prints."
        )
        if not ray.is_initialized():  # Serve would start another cluster
            raise ServerUnavailableError(f"This process belongs to no Ray cluster, and so to no t3d server. {advice}")
        try:
            handle: Any = serve.get_app_handle(APPLICATION_NAME)
        except RayServeException as error:
            raise ServerUnavailableError(f"No t3d server runs in this Ray cluster. {advice}") from error
        self._handle = handle.options(**BY_REFERENCE)

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

        Warns of slices that are taken as colour as `Client.upload` does.
        """
        return self._call(_same if is_several(data) else _only, "upload", _each(_values, data, "data"))

    @overload
    def run(  # type: ignore[overload-overlap]  # text is a sequence of text, but comes first
        self, name: str, inputs: Values | Dataset, args: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
    ) -> Reply[dict[str, Any]]: ...

    @overload
    def run(
        self,
        name: str,
        inputs: Sequence[Values | Dataset],
        args: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> Reply[list[dict[str, Any]]]: ...

    def run(
        self,
        name: str,
        inputs: Values | Dataset | Sequence[Values | Dataset],
        args: Mapping[str, Any] | None = None,
        *,
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

        plain = _plain(args)
        given = _each(_id_or_values, inputs, "inputs")
        return self._call(made, "compute", name, given, plain, device=device, version=version, timeout_s=timeout_s)

    def submit(
        self,
        name: str,
        inputs: Values | Dataset | Sequence[Values | Dataset],
        args: Mapping[str, Any] | None = None,
        *,
        device: Device | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Reply[Run]:
        """Run an algorithm; after the answer, the run goes on even if the caller ends.

        Args:
            name: the algorithm.
            inputs: as `run`.
            args: as `run`.
            device: as `run`.
            version: as `run`.
            timeout_s: as `run`.
            idempotency_key: as `Client.submit`.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError, DatasetNotFoundError: one of them is not there.
            InvalidArgsError: lists every arg that is wrong.
            DeviceNotSupportedError: it does not run there.
            InvalidDatasetError: as `upload`. What was stored for a run that is refused is removed.
            InvalidRequestError: `args` cannot be sent as JSON, or `idempotency_key` cannot be one; nothing was stored.
        """
        key, plain = checked_key(idempotency_key), _plain(args)
        given = _each(_id_or_values, inputs, "inputs")
        options: dict[str, Any] = {"device": device, "version": version, "timeout_s": timeout_s}
        # The same request with its key is the same run; data is stored again each time, which makes it another request.
        repeatable = all(isinstance(each, str) for each in given)
        return self._call(_same, "submit", name, given, plain, idempotency_key=key, repeatable=repeatable, **options)

    def get_run(self, run_id: str, wait_s: float = 0.0) -> Reply[Run]:
        """A run: its status, progress, latest message, error and outputs.

        Args:
            run_id: the run.
            wait_s: wait up to this long for its end, in seconds; at most 60.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return self._call(_same, "get_run", run_id, wait_s, repeatable=True)

    def cancel(self, run_id: str) -> Reply[Run]:
        """Cancel a run: at once while it waits, else when its code next reports; one that has ended stays as it is."""
        return self._call(_same, "cancel_run", run_id, repeatable=True)

    def log(self, run_id: str) -> Reply[list[LogLine]]:
        """The log of a run, so far."""
        return self._call(_same, "run_log", run_id, repeatable=True)

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
            InvalidRequestError: a key is not there; it names those there are.
        """
        convert = _same if is_several(dataset) else _only
        return self._call(convert, "fetch_data", ids_of(dataset), keys, repeatable=True)

    def info(self, dataset: Dataset) -> Reply[DatasetInfo]:
        """Keys, shapes, dtypes, axes, spacing and size of a dataset."""
        return self._call(_same, "dataset_info", id_of(dataset), repeatable=True)

    def delete(self, dataset: Dataset) -> Reply[None]:
        """Remove a dataset for good."""
        return self._call(_same, "delete_data", [id_of(dataset)])

    def algorithms(self) -> Reply[list[AlgorithmInfo]]:
        """Algorithms by name."""
        return self._call(_same, "algorithms", repeatable=True)

    def _call(
        self, convert: Callable[[Any], T], method: str, *args: Any, repeatable: bool = False, **options: Any
    ) -> Reply[T]:
        """Call the router; a `repeatable` call is sent again even if it may have had its effect already."""
        return Reply(partial(getattr(self._handle, method).remote, *args, **options), convert, repeatable=repeatable)


def _same(answer: Any) -> Any:
    return answer


def _only(answers: list[Any]) -> Any:
    return answers[0]


def _each(convert: Callable[[Any], T], data: Any, name: str) -> list[T]:
    """The result of `convert` for one input, or for each of several; errors and warnings name the input."""
    converted = []
    for label, each in labelled(data, name):
        with naming(label):
            given = convert(each)
        image = given.get("image") if isinstance(given, dict) else None
        if isinstance(image, np.ndarray) and image.ndim == 3 and resolve_axes(image.shape) == "CYX":
            warn_of_colour(label, each, {}, image.shape, stacklevel=4)
        converted.append(given)
    return converted


def _plain(args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Args as JSON has them, numbers and arrays of numpy too; InvalidRequestError where they cannot be written so."""
    plain: dict[str, Any] = json.loads(json_of(checked_args(args)))
    return plain


def _id_or_values(data: Any) -> str | dict[str, Any]:
    return stored_id(data) or _values(data)


def _values(data: Any) -> dict[str, Any]:
    """A dataset as plain values, which need no library of the caller's to be read."""
    if isinstance(data, str | os.PathLike):
        raise InvalidDatasetError(f"{str(data)!r} is not the id of a dataset, and files are not read here: give arrays")
    return dict(normalise(values_of(data)))
