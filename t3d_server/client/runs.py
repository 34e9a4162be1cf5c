"""What a client does with runs: submit, wait, list, cancel."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypedDict, Unpack, cast, overload

from t3d_server.client.bodies import Data, is_several, labelled
from t3d_server.client.connection import json_of, path_of
from t3d_server.client.datasets import Datasets, discarding
from t3d_server.client.events import RunEvent, run_events
from t3d_server.client.run_handle import RunHandle, kept, outputs_of
from t3d_server.errors import InvalidInputError, InvalidRequestError, NotFoundError, QueueFullError, T3dError
from t3d_server.ids import canonical, is_id, new_id
from t3d_server.models import DatasetInfo, Device, LogLine, Model, Run, RunStatus

Input = Data | DatasetInfo
"""What a run takes: data, or a dataset that is stored already, by its info or id."""

REFUSALS = (InvalidInputError, NotFoundError, QueueFullError)
"""Errors of `submit` after which there certainly is no run."""

_SHORT_WAIT_S = 2.0
_RUNS_PER_PAGE = 100
_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")


class RunOptions(TypedDict, total=False):
    """See `Runs.submit`."""

    device: Device | None
    version: str | None
    timeout_s: float | None


class _Page(Model):
    """Runs, newest first, and how to get those after them."""

    runs: list[Run]
    next_cursor: str | None = None


class Runs(Datasets):
    """Calls about runs."""

    def submit(
        self,
        name: str,
        inputs: Input | Sequence[Input],
        args: Mapping[str, Any] | None = None,
        *,
        device: Device | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        wait_s: float = 0.0,
    ) -> RunHandle:
        """Run an algorithm; after this has returned, the run goes on even if the caller ends.

        Args:
            name: the algorithm.
            inputs: a dataset's id or info, or what `upload` takes, which is uploaded; or a list or tuple of those.
                Give axes and spacing to `upload`, or as keys beside the image: {"image": stack, "axes": "ZYX"}.
            args: values of the algorithm's parameters; the others take their defaults.
            device: "cpu" or "gpu"; the algorithm's default where None.
            version: the current one where None.
            timeout_s: longest time the run may take, once it has begun; the algorithm's or the server's limit where
                None.
            idempotency_key: submitting the same again with the same key gives the same run; a fresh one where None.
                1 to 255 printable ASCII characters. It is for datasets that are stored: data given here is uploaded
                anew each time, which makes it another request.
            wait_s: wait up to this long for the end of the run, in seconds.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError, DatasetNotFoundError: one of them is not there.
            InvalidArgsError: lists every arg that is wrong.
            DeviceNotSupportedError: it does not run there.
            InvalidDatasetError: as `upload`. What was uploaded for a run that is refused is removed.
            InvalidRequestError: `args` cannot be sent as JSON, `wait_s` is no length of time, or `idempotency_key`
                cannot be one; nothing was uploaded.
        """
        key = checked_key(idempotency_key)
        if not 0 <= wait_s < math.inf:
            raise InvalidRequestError(f"wait_s is a number of seconds from 0 on, it is not {wait_s!r}")
        options = {"device": device, "version": version, "timeout_s": timeout_s}
        path, request, uploaded = self._prepared(name, inputs, args, options)
        return self._submitted(path, request, uploaded, wait_s=wait_s, key=key)

    @overload
    def run(  # type: ignore[overload-overlap]  # as `upload`
        self, name: str, inputs: Input, args: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
    ) -> dict[str, Any]: ...

    @overload
    def run(
        self, name: str, inputs: Sequence[Input], args: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
    ) -> list[dict[str, Any]]: ...

    def run(
        self,
        name: str,
        inputs: Input | Sequence[Input],
        args: Mapping[str, Any] | None = None,
        *,
        device: Device | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Upload, run, wait and fetch: `clean = t3d.run("denoise", image)["image"]`.

        Ctrl-C cancels the run; `submit` is for runs that go on without the caller.

        Args:
            name: the algorithm.
            inputs: as `submit`.
            args: as `submit`.
            device: as `submit`.
            version: as `submit`.
            timeout_s: as `submit`.

        Returns:
            The values of the one dataset that the run made, as `fetch` gives them; for a list or tuple of inputs, a
            list of those it made.

        Raises:
            AlgorithmError: the run failed; `traceback` is that of the author's code.
            InvalidRequestError: a single input gave not one dataset; the message has their ids.
            T3dError: as `submit`.
        """
        options = {"device": device, "version": version, "timeout_s": timeout_s}
        path, request, uploaded = self._prepared(name, inputs, args, options)
        # In a thread, so that Ctrl-C never comes between the run being accepted and its id being known. Waiting there
        # saves short runs another request; Ctrl-C has to wait as long.
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(self._submitted, path, request, uploaded, wait_s=_SHORT_WAIT_S, key=new_id())
            try:
                run = submitting.result().wait()
            except KeyboardInterrupt:
                with suppress(T3dError):
                    submitting.result().cancel()
                raise
        several = is_several(inputs)
        outputs = outputs_of(run, of_one=not several)
        with kept(run.id):
            results = self.fetch(outputs)
        return results if several else results[0]

    def runs(
        self, *, algorithm: str | None = None, status: RunStatus | str | None = None, limit: int = 100
    ) -> list[Run]:
        """Runs, newest first.

        Args:
            algorithm: only runs of this one.
            status: only runs with this status ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", in any case).
            limit: most runs.
        """
        runs: list[Run] = []
        params = {"algorithm": algorithm, "status": None if status is None else status.upper(), "cursor": None}
        while len(runs) < limit:
            size = min(limit - len(runs), _RUNS_PER_PAGE)
            page = self._ask(_Page, "GET", "/v1/runs", params={**params, "limit": size})
            runs += page.runs
            params["cursor"] = page.next_cursor
            if page.next_cursor is None:
                break
        return runs

    def get_run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run; returns once it has ended, or after `wait_s` seconds.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return self._ask(Run, "GET", path_of("runs", run_id), params={"wait_s": wait_s}, wait_s=wait_s)

    def follow(self, run_id: str) -> Generator[tuple[Run, RunEvent]]:
        """The states and events of a run, up to its end; see `RunHandle.events`.

        Raises:
            RunNotFoundError: there is no such run.
        """
        path = path_of("runs", run_id, "events")
        with self._understanding(f"GET {path}"):
            yield from run_events(self._http, path)

    def handle(self, run_id: str) -> RunHandle:
        """A handle to a run that was submitted before, also by another client."""
        return RunHandle(self, self.get_run(run_id))

    def cancel(self, run_id: str) -> Run:
        """Cancel a run: at once while it waits, else when its code next reports, or by force."""
        return self._ask(Run, "POST", path_of("runs", run_id, "cancel"), repeatable=True)

    def log(self, run_id: str) -> list[LogLine]:
        """The log of a run, so far."""
        return self._ask(list[LogLine], "GET", path_of("runs", run_id, "log"))

    def _prepared(
        self,
        name: str,
        inputs: Input | Sequence[Input],
        args: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> tuple[str, bytes, list[DatasetInfo]]:
        """Check what can be checked here, then upload.

        Args:
            name: the algorithm.
            inputs: as `submit`.
            args: as `submit`.
            options: the other fields of the request.

        Returns:
            The path and the body of the request for a run, and what was uploaded for it.
        """
        path = path_of("algorithms", name, "runs")
        fields = {"args": checked_args(args), **options}
        json_of(fields)
        items = labelled(inputs, "inputs")
        data = [(label, each) for label, each in items if stored_id(each) is None]
        uploaded = self._uploaded(cast("list[tuple[str, Data]]", data), "image", {}, None, stacklevel=4)
        new = iter(uploaded)
        ids = [stored_id(each) or next(new).id for _, each in items]
        return path, json_of({"input_dataset_ids": ids, **fields}), uploaded

    def _submitted(
        self, path: str, request: bytes, uploaded: Sequence[DatasetInfo], *, wait_s: float, key: str
    ) -> RunHandle:
        with discarding(self, uploaded, *REFUSALS):
            run = self._ask(
                Run,
                "POST",
                path,
                params={"wait_s": wait_s},
                headers={"Idempotency-Key": key},  # with it, sending it again makes no second run
                json=request,
                wait_s=wait_s,
                repeatable=True,
            )
        return RunHandle(self, run)


def stored_id(data: object) -> str | None:
    """Id of a dataset that is stored; None for data that is to be uploaded."""
    if isinstance(data, DatasetInfo):
        return data.id
    if not isinstance(data, str):
        return None
    identifier = canonical(data)
    return identifier if is_id(identifier) else None


def checked_key(key: str | None) -> str:
    """An idempotency key, a fresh one where None.

    Raises:
        InvalidRequestError: it cannot be one.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequestError(f"an idempotency_key has 1 to 255 printable ASCII characters, it is not {key!r:.80}")
    return new_id() if key is None else key


def checked_args(args: Mapping[str, Any] | None) -> dict[str, Any]:
    """The args of a run, none where None.

    Raises:
        InvalidRequestError: they are no mapping.
    """
    if args is None:
        return {}
    if not isinstance(args, Mapping):
        raise InvalidRequestError(f"args are values by the names of parameters, they are not {args!r:.80}")
    return dict(args)
