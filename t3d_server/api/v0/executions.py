"""Executions of the v0 API: runs, and beside each what only this API knows of it.

    executions/v0/<run id>.json        the request

A record is made anew at most every 0.1 s, by one call to the coordinator that brings what is new; however many clients
ask, and without the store as long as the run is live.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from t3d_server.api.service import Service
from t3d_server.api.v0.algorithms import Algorithms, algorithm_id
from t3d_server.api.v0.args import converted
from t3d_server.api.v0.errors import InputsNotFoundError, NotStoppableError
from t3d_server.api.v0.files import Files
from t3d_server.api.v0.models import ExecuteRequest, ExecutionRecord, Status
from t3d_server.errors import (
    DatasetNotFoundError,
    Faults,
    InvalidDatasetError,
    NotFoundError,
    ObjectNotFoundError,
    PayloadTooLargeError,
    RunNotFoundError,
    StoreUnavailableError,
    T3dError,
)
from t3d_server.ids import canonical, is_id, new_id, version_1
from t3d_server.models import LogLine, Run, RunStatus, TolerantRunRequest
from t3d_server.run_log import MAX_LINES
from t3d_server.storage.base import read
from t3d_server.storage.keys import execution_key

logger = logging.getLogger(__name__)

REFRESH_S = 0.1
_STATUS: dict[RunStatus, Status] = {
    RunStatus.PENDING: "PENDING",
    RunStatus.RUNNING: "RUNNING",
    RunStatus.COMPLETED: "COMPLETED",
    RunStatus.FAILED: "FAILED",
    RunStatus.CANCELLED: "STOPPED",
}
WATCHED = 256
"""Records that are kept in memory."""


@dataclass(eq=False)
class _Watched:
    """A run as this API last told of it."""

    asked: ExecuteRequest | None = None
    run: Run | None = None
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    body: bytes = b""
    good_until: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Executions:
    """Starts, tells of and stops executions.

    Args:
        service: the operations.
        algorithms: finds algorithms.
        files: finds inputs.
    """

    def __init__(self, service: Service, algorithms: Algorithms, files: Files) -> None:
        self._service = service
        self._algorithms = algorithms
        self._files = files
        self._watched: OrderedDict[str, _Watched] = OrderedDict()

    async def start(self, request: ExecuteRequest) -> str:
        """Start an execution; returns its id.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError: there is no such algorithm, or minor version.
            InputsNotFoundError: inputs are not there.
            InvalidDatasetError, PayloadTooLargeError, InvalidRequestError: uploads that are inputs are no datasets, or
                inputs are not there, either; each is told.
            T3dError: as `Coordinator.submit`.
        """
        line = await self._algorithms.by_id(request.algorithm_id)
        version = line.version(request.algorithm_minor_version)
        manifest = (await self._service.version(line.name, version)).manifest
        wanted = TolerantRunRequest(
            input_dataset_ids=await self._inputs(request.input_dataset_ids),
            args=converted(manifest.additional_parameters, request.additional_parameters),
            device=request.execution_device_override,
            version=version,
        )
        run = await self._service.runs.submit(algorithm=line.name, request=wanted, run_id=new_id(), key=None)
        if request.session_token is None:
            request = request.model_copy(update={"session_token": version_1(str(uuid.uuid4()))})
        self._keep(run.id, _Watched(request))
        content = request.model_dump_json().encode()
        try:
            await self._service.workers.run(self._service.store.put, execution_key(run.id), content)
        except StoreUnavailableError as error:  # the run was accepted: who is told otherwise would start another one
            logger.warning("what was asked of execution %s is not kept: %s", run.id, error)
        return version_1(run.id)

    async def record(self, execution_id: str) -> bytes:
        """How an execution is, as JSON of `ExecutionRecord`.

        Raises:
            RunNotFoundError: there is none.
        """
        run_id = canonical(execution_id)
        watched = self._watched.get(run_id)
        if watched is None:
            watched = self._keep(run_id, _Watched())
        self._watched.move_to_end(run_id)
        async with watched.turn:
            loop = asyncio.get_running_loop()
            if loop.time() >= watched.good_until:
                try:
                    await self._refresh(run_id, watched)
                except NotFoundError as error:
                    self._watched.pop(run_id, None)
                    raise _missing(execution_id) from error
                watched.good_until = loop.time() + REFRESH_S
        return watched.body

    async def stop(self, execution_id: str) -> None:
        """Stop an execution.

        Raises:
            RunNotFoundError: there is none.
            NotStoppableError: it has ended.
        """
        run_id = canonical(execution_id)
        try:
            run = await self._service.run(run_id)
        except NotFoundError as error:
            raise _missing(execution_id) from error
        if run.status.ended:
            raise NotStoppableError(f"The execution {execution_id} has ended: {_STATUS[run.status]}.")
        await self._service.cancel(run_id)
        if watched := self._watched.get(run_id):
            watched.good_until = 0.0

    def _keep(self, run_id: str, watched: _Watched) -> _Watched:
        self._watched[run_id] = watched
        while len(self._watched) > WATCHED:
            self._watched.popitem(last=False)
        return watched

    async def _refresh(self, run_id: str, watched: _Watched) -> None:
        if watched.run is not None and watched.run.status.ended:
            return
        after = watched.lines[-1].time if watched.lines else None
        news = await self._service.feeds.news(run_id, watched.run, after, 0.0)
        if watched.asked is None:
            watched.asked = await self._service.workers.run(self._asked, news.run)
        if news.run == watched.run and not news.lines:
            return
        watched.lines += news.lines
        watched.run = news.run
        watched.body = _record(news.run, watched.asked, watched.lines).model_dump_json().encode()

    def _asked(self, run: Run) -> ExecuteRequest:
        """What was asked for; as the run tells it where that came by another API."""
        try:
            return ExecuteRequest.model_validate_json(read(self._service.store, execution_key(run.id)))
        except ObjectNotFoundError:
            return ExecuteRequest(
                algorithm_id=_algorithm_id(run),
                input_dataset_ids=run.input_dataset_ids,
                execution_device_override=run.device,
                additional_parameters=run.args,
                session_token=version_1(str(uuid.uuid5(uuid.NAMESPACE_URL, f"t3d:runs/{run.id}"))),
            )

    async def _inputs(self, names: list[str]) -> list[str]:
        unique = list(dict.fromkeys(names))
        found = dict(zip(unique, await asyncio.gather(*map(self._input, unique)), strict=True))
        wrong = {name: each for name, each in found.items() if isinstance(each, T3dError)}
        missing = [name for name, fault in wrong.items() if isinstance(fault, DatasetNotFoundError)]
        if missing and len(missing) == len(wrong):
            raise InputsNotFoundError(missing)
        faults = Faults()
        for name, fault in wrong.items():
            # Of several, what is wrong within each is told as its message.
            told = fault if len(wrong) == 1 else type(fault)("; ".join([fault.message, *map(str, fault.problems)]))
            faults.add(f"input_dataset_ids[{names.index(name)}]", told)
        faults.raise_if_any()
        return [str(found[name]) for name in names]

    async def _input(self, name: str) -> str | T3dError:
        """Id of the dataset, or why there is none."""
        try:
            return await self._files.dataset_of(name)
        except (DatasetNotFoundError, InvalidDatasetError, PayloadTooLargeError) as fault:
            return fault


def _record(run: Run, asked: ExecuteRequest, lines: Iterable[LogLine]) -> ExecutionRecord:
    return ExecutionRecord(
        execution_id=version_1(run.id),
        algorithm_id=_algorithm_id(run),
        checkpoint_id=asked.checkpoint_id,
        algorithm_minor_version=asked.algorithm_minor_version,
        input_dataset_ids=_inputs_of(run, asked),
        execution_device_override=asked.execution_device_override,
        resolved_execution_device="cuda" if run.resolved_device == "gpu" else "cpu",
        additional_parameters=asked.additional_parameters,
        session_token=asked.session_token or "",
        output_dataset_ids=_outputs_of(run),
        status=_STATUS[run.status],
        progress=run.progress,
        time_started=(run.started_at or run.created_at).isoformat(),
        time_completed="" if run.ended_at is None else run.ended_at.isoformat(),
        log="".join(f"{line.time.isoformat()} {line.level} {line.message}\n" for line in lines),
    )


def _inputs_of(run: Run, asked: ExecuteRequest) -> list[str]:
    """The inputs as they were asked for: names as they are, ids in the form of version 1."""
    pairs = zip(asked.input_dataset_ids, run.input_dataset_ids, strict=True)
    return [version_1(dataset_id) if canonical(name) == dataset_id else name for name, dataset_id in pairs]


def _outputs_of(run: Run) -> list[str]:
    """What the algorithm returned: ids in the form of version 1, and text in its place among them."""
    return [version_1(item) if is_id(item) else item for item in run.returned or run.output_dataset_ids]


def _missing(execution_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"There is no execution {execution_id!r:.80}.")


def _algorithm_id(run: Run) -> str:
    return algorithm_id(run.algorithm, run.version.split(".")[0])
