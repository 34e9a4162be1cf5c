"""`Client`: one method for each thing that a server does."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

import numpy as np
from pydantic import TypeAdapter

from t3d_server import discovery
from t3d_server.client.files import Array, Data, Progress, as_file, open_counted, sha256_of
from t3d_server.client.handle import LONG_POLL_S, RunHandle
from t3d_server.client.transport import Transport
from t3d_server.datasets import hdf5
from t3d_server.datasets.formats import NPY
from t3d_server.errors import InvalidRequestError, MissingBlobsError, ObjectNotFoundError, ServerUnavailableError
from t3d_server.ids import is_id, new_id
from t3d_server.models import (
    AlgorithmInfo,
    AlgorithmVersion,
    DatasetInfo,
    Device,
    LogLine,
    Model,
    Publication,
    Run,
    RunStatus,
    ServerInfo,
)

Input = Data | DatasetInfo
"""What a run takes: data, or a dataset that is there already, by its info or id."""

_UPLOADS = 4
_PUBLISH_TRIES = 3
_LONGEST_RUN_S = 24 * 3600.0
_RUNS_PER_PAGE = 100
_LOG = TypeAdapter(list[LogLine])
_RUNS = TypeAdapter(list[Run])
_ALGORITHMS = TypeAdapter(list[AlgorithmInfo])

M = TypeVar("M", bound=Model)


class Client:
    """A connection to a t3d server; close it, or use it in a `with` statement.

    Errors are those of `t3d_server.errors`, as the server raised them. Calls that can be repeated without harm are
    repeated for a while where the server is restarting.

    Args:
        url: the server; else `T3D_URL`, else the local server.
        token: a token of that server; else `T3D_TOKEN`, else the local server's.
        timeout_s: how long the server may stay silent, in seconds.

    Raises:
        ServerUnavailableError: no server is known.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout_s: float = 60.0) -> None:
        local = discovery.read_server()
        url = url or os.environ.get("T3D_URL") or (local.url if local else None)
        if not url:
            raise ServerUnavailableError("No local t3d server is running. Start one by `t3d up`, or set T3D_URL.")
        if local is not None and url.replace("://localhost:", "://127.0.0.1:", 1).rstrip("/") == local.url.rstrip("/"):
            url = local.url  # by its address: behind the other name may be another user's server
        token = token or os.environ.get("T3D_TOKEN")
        if token is None and local is not None and url == local.url:
            token = discovery.read_token()  # of the local server: no other one gets to see it
        advice = "Start one by `t3d up`, or set T3D_URL to where it runs."
        self._http = Transport(url, token, timeout_s=timeout_s, advice=advice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return self._http.url

    def server(self) -> ServerInfo:
        """The server, its devices and limits."""
        return self._get(ServerInfo, "/v1")

    # Datasets

    def upload(
        self,
        data: Data,
        *,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        spacing_unit: str | None = None,
        key: str = "image",
        on_progress: Progress | None = None,
    ) -> DatasetInfo:
        """Store a dataset.

        Args:
            data: an array; values by key (arrays, numbers, text); or the path of a HDF5, npy, npz, TIFF, PNG or
                JPEG file.
            axes: axes of `image` ("YX", "YXC", "CYX", "ZYX", "ZYXC"); else what the file states or the shape suggests.
            spacing: distance of samples for each spatial axis, in axis order.
            spacing_unit: unit of `spacing`; "um" by default.
            key: key of an array, or of the array in an npy or image file.
            on_progress: hears of bytes sent, and of how many.

        Raises:
            InvalidDatasetError: it is no dataset; lists every key that is wrong.
            PayloadTooLargeError: more than the server takes.
            FileNotFoundError: there is no such file.
        """
        given = {"axes": axes, "spacing": spacing, "spacing_unit": spacing_unit}
        given = {name: value for name, value in given.items() if value is not None}
        with as_file(data, key, given) as (path, content_type, said):
            params = {"key": key, **said}
            if "spacing" in said:
                params["spacing"] = ",".join(map(str, map(float, said["spacing"])))
            response = self._http.call(
                "POST",
                "/v1/datasets",
                params=params,
                headers={"Content-Type": content_type},
                file=lambda: open_counted(path, on_progress),
            )
        return DatasetInfo.model_validate_json(response.content)

    def download(self, dataset_id: str, path: str | os.PathLike[str] | None = None) -> Path:
        """Save a dataset as a HDF5 file.

        Args:
            dataset_id: the dataset.
            path: the file, or the folder to put it in; `<id>.h5` here where None.

        Returns:
            The file. It appears when it is whole.
        """
        target = Path(path or ".")
        target = target / f"{dataset_id}.h5" if target.is_dir() else target
        part = target.with_name(f".{target.name}.{new_id()}")
        try:
            with part.open("xb") as file:
                self._http.receive(_path("datasets", dataset_id), file)
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def fetch(self, dataset_id: str, keys: Sequence[str] = ()) -> dict[str, Any]:
        """Values of a dataset by key; large arrays are mapped from a temporary file, and may be changed in place.

        Args:
            dataset_id: the dataset.
            keys: what to read; everything where empty.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return hdf5.read(self.download(dataset_id, Path(folder) / "dataset.h5"), keys)

    def fetch_array(self, dataset_id: str, name: str = "image") -> Array:
        """One array of a dataset, without the others.

        Raises:
            InvalidRequestError: there is no such array; it names those there are.
        """
        buffer = io.BytesIO()
        self._http.receive(_path("datasets", dataset_id), buffer, params={"array": name}, headers={"Accept": NPY})
        buffer.seek(0)
        array: Array = np.load(buffer, allow_pickle=False)
        return array

    def info(self, dataset_id: str) -> DatasetInfo:
        """Keys, shapes, dtypes, axes, spacing and size of a dataset."""
        return self._get(DatasetInfo, _path("datasets", dataset_id, "info"))

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset for good."""
        self._http.call("DELETE", _path("datasets", dataset_id))

    # Algorithms

    def algorithms(
        self, *, algorithm_type: str | None = None, tag: str | None = None, device: Device | None = None
    ) -> list[AlgorithmInfo]:
        """Algorithms by name, those that fit every filter that is given."""
        params = {"type": algorithm_type, "tag": tag, "device": device}
        return _ALGORITHMS.validate_json(self._http.call("GET", "/v1/algorithms", params=params).content)

    def algorithm(self, name: str) -> AlgorithmInfo:
        """An algorithm and its versions."""
        return self._get(AlgorithmInfo, _path("algorithms", name))

    def version(self, name: str, version: str) -> AlgorithmVersion:
        """One version in full."""
        return self._get(AlgorithmVersion, _path("algorithms", name, version))

    def args_schema(self, name: str, version: str | None = None) -> dict[str, Any]:
        """JSON Schema of the args; of the current version where None."""
        response = self._http.call("GET", _path("algorithms", name, "args-schema"), params={"version": version})
        schema: dict[str, Any] = response.json()
        return schema

    def publish(
        self,
        files: Mapping[str, str | os.PathLike[str]],
        *,
        on_progress: Progress | None = None,
        on_stage: Callable[[str], None] | None = None,
    ) -> AlgorithmVersion:
        """Publish an algorithm folder; returns when a replica has loaded it.

        Args:
            files: each file by its `/`-separated path in the folder.
            on_progress: hears of bytes that are in the store, and of how many.
            on_stage: hears what happens now, in words, whenever that changes: "hashing" and "uploading", then
                "publishing", from which on the server may publish it whatever becomes of this call.

        Raises:
            InvalidPackageError, ImportFailedError, LoadFailedError: it cannot work; nothing was published.
            VersionConflictError: the version is there with other content.
            ForbiddenError: the token is not an admin's.
        """
        say = _once_each(on_stage)
        say("hashing")
        paths = {name: Path(path) for name, path in files.items()}
        hashes = {name: sha256_of(path) for name, path in paths.items()}
        blobs = {sha256: paths[name] for name, sha256 in hashes.items()}
        tries = 0
        while True:
            say("uploading")
            self._store_blobs(blobs, on_progress)
            tries += 1
            try:
                return self._published(hashes, 1.0 if on_stage else LONG_POLL_S, say)
            except MissingBlobsError:  # they were there, and went with another publication or version that had them
                if tries == _PUBLISH_TRIES:
                    raise

    def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the one that requests without a version get."""
        response = self._http.call("PUT", _path("algorithms", name, "current"), json=_json({"version": version}))
        return AlgorithmInfo.model_validate_json(response.content)

    def remove(self, name: str, version: str, *, cancel_runs: bool = False) -> None:
        """Remove a version, after its runs have ended, or were cancelled if `cancel_runs`."""
        params = {"runs": "cancel" if cancel_runs else "wait"}
        self._http.call("DELETE", _path("algorithms", name, version), params=params, wait_s=_LONGEST_RUN_S)

    # Runs

    def submit(
        self,
        name: str,
        inputs: Input | Sequence[Input],
        *,
        args: Mapping[str, Any] | None = None,
        device: Device | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        wait_s: float = 0.0,
    ) -> RunHandle:
        """Run an algorithm.

        Args:
            name: the algorithm.
            inputs: a dataset's id or info, an array, values by key, a path; or a list of those. What is no dataset
                yet is uploaded.
            args: values of the algorithm's parameters; the others take their defaults.
            device: "cpu" or "gpu"; the algorithm's default where None.
            version: the current one where None.
            timeout_s: longest time the run may take, once it has begun; the algorithm's or the server's limit where
                None.
            idempotency_key: submitting the same again with the same key gives the same run; a fresh one where None.
            wait_s: wait up to this long for the end of the run, in seconds.

        Raises:
            AlgorithmNotFoundError, VersionNotFoundError, DatasetNotFoundError: one of them is not there.
            InvalidArgsError: lists every arg that is wrong.
            DeviceNotSupportedError: it does not run there.
        """
        request = {
            "input_dataset_ids": [self._dataset_id(each) for each in _listed(inputs)],
            "args": dict(args or {}),
            "device": device,
            "version": version,
            "timeout_s": timeout_s,
        }
        response = self._http.call(
            "POST",
            _path("algorithms", name, "runs"),
            params={"wait_s": wait_s},
            headers={"Idempotency-Key": idempotency_key or new_id()},
            json=_json(request),
            wait_s=wait_s,
            repeatable=True,
        )
        return RunHandle(self, Run.model_validate_json(response.content))

    @overload
    def run(
        self,
        name: str,
        inputs: list[Input] | tuple[Input, ...],
        *,
        args: Mapping[str, Any] | None = None,
        device: Device | None = None,
        version: str | None = None,
    ) -> list[dict[str, Any]]: ...

    @overload
    def run(
        self,
        name: str,
        inputs: Input,
        *,
        args: Mapping[str, Any] | None = None,
        device: Device | None = None,
        version: str | None = None,
    ) -> dict[str, Any]: ...

    def run(
        self,
        name: str,
        inputs: Input | list[Input] | tuple[Input, ...],
        *,
        args: Mapping[str, Any] | None = None,
        device: Device | None = None,
        version: str | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Upload, run, wait and fetch.

        Args:
            name: the algorithm.
            inputs: as `submit`.
            args: as `submit`.
            device: as `submit`.
            version: as `submit`.

        Returns:
            The values of the one dataset that the run made; for a list or tuple of inputs, a list of those it made.

        Raises:
            AlgorithmError: the run failed.
            InvalidRequestError: a single input gave not one dataset; the message has their ids.
            T3dError: as `submit`.
        """
        handle = self.submit(name, inputs, args=args, device=device, version=version, wait_s=LONG_POLL_S)
        if isinstance(inputs, list | tuple):
            return handle.result()
        ids = handle.output_dataset_ids()
        if len(ids) != 1:
            raise InvalidRequestError(
                f"{name} made {len(ids)} datasets of one input: {', '.join(ids)}. "
                "Give the input in a list to get a list of results."
            )
        return self.fetch(ids[0])

    def runs(
        self, *, algorithm: str | None = None, status: RunStatus | str | None = None, limit: int = 100
    ) -> list[Run]:
        """Runs, newest first.

        Args:
            algorithm: only runs of this one.
            status: only runs that are there ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", in any case).
            limit: most runs.
        """
        runs: list[Run] = []
        params = {"algorithm": algorithm, "status": status and status.upper(), "cursor": None}
        while len(runs) < limit:
            size = min(limit - len(runs), _RUNS_PER_PAGE)
            page = self._http.call("GET", "/v1/runs", params={**params, "limit": size}).json()
            runs += _RUNS.validate_python(page["runs"])
            params["cursor"] = page["next_cursor"]
            if params["cursor"] is None:
                break
        return runs

    def get_run(self, run_id: str, wait_s: float = 0.0) -> Run:
        """A run; returns once it has ended, or after `wait_s` seconds."""
        return self._get(Run, _path("runs", run_id), params={"wait_s": wait_s}, wait_s=wait_s)

    def handle(self, run_id: str) -> RunHandle:
        """A handle to a run that was submitted before."""
        return RunHandle(self, self.get_run(run_id))

    def cancel(self, run_id: str) -> Run:
        """Cancel a run; one that has ended stays as it is."""
        response = self._http.call("POST", _path("runs", run_id, "cancel"), repeatable=True)
        return Run.model_validate_json(response.content)

    def log(self, run_id: str) -> list[LogLine]:
        """The log of a run, so far."""
        return _LOG.validate_json(self._http.call("GET", _path("runs", run_id, "log")).content)

    def _get(self, model: type[M], path: str, *, params: Mapping[str, Any] | None = None, wait_s: float = 0.0) -> M:
        return model.model_validate_json(self._http.call("GET", path, params=params, wait_s=wait_s).content)

    def _dataset_id(self, data: Input) -> str:
        if isinstance(data, DatasetInfo):
            return data.id
        if isinstance(data, str) and is_id(data):
            return data
        return self.upload(data).id

    def _published(self, hashes: Mapping[str, str], wait_s: float, say: Callable[[str], None]) -> AlgorithmVersion:
        """Have the server publish files that it has got; waits for the end."""
        say("publishing")
        while True:
            response = self._http.call(
                "POST",
                "/v1/algorithms",
                params={"wait_s": wait_s},
                json=_json({"files": hashes}),
                wait_s=wait_s,
                repeatable=True,
            )
            if response.status_code == 201:
                return AlgorithmVersion.model_validate_json(response.content)
            say(Publication.model_validate_json(response.content).stage)

    def _store_blobs(self, blobs: Mapping[str, Path], on_progress: Progress | None) -> None:
        total = sum(path.stat().st_size for path in blobs.values())
        with ThreadPoolExecutor(_UPLOADS) as pool:
            done = 0
            for path in pool.map(lambda blob: self._store_blob(*blob), blobs.items()):
                done += path.stat().st_size
                if on_progress:
                    on_progress(done, total)

    def _store_blob(self, sha256: str, path: Path) -> Path:
        address = _path("blobs", sha256)
        try:
            self._http.call("HEAD", address)
        except ObjectNotFoundError:
            self._http.call("PUT", address, file=lambda: path.open("rb"))
        return path


def _listed(inputs: Input | Sequence[Input]) -> Sequence[Input]:
    return inputs if isinstance(inputs, list | tuple) else [inputs]  # type: ignore[list-item]  # a str is a Sequence too


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _json(content: Mapping[str, Any]) -> bytes:
    """JSON of what users give: numpy's numbers and arrays are as good as Python's."""
    try:
        return json.dumps(content, default=lambda value: value.tolist(), allow_nan=False).encode()
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"This cannot be sent as JSON: {error}") from error


def _once_each(hear: Callable[[str], None] | None) -> Callable[[str], None]:
    """Passes on what is not said twice in a row."""
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if hear is not None and text != last:
            hear(text)
        last = text

    return say
