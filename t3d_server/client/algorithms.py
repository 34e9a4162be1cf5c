"""What a client does with algorithms: find, publish, roll back, remove."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event, Lock
from typing import Any

from t3d_server.client.bodies import Progress, of_file
from t3d_server.client.connection import Connection, json_of, path_of
from t3d_server.client.run_handle import LONG_POLL_S
from t3d_server.errors import MissingBlobsError, ObjectNotFoundError
from t3d_server.models import AlgorithmInfo, AlgorithmVersion, Device, Publication

_UPLOADS = 4
_PUBLISH_TRIES = 3
_LONGEST_RUN_S = 24 * 3600.0
_BINARY = "application/octet-stream"


class Algorithms(Connection):
    """Calls about algorithms."""

    def algorithms(
        self, *, algorithm_type: str | None = None, tag: str | None = None, device: Device | None = None
    ) -> list[AlgorithmInfo]:
        """Algorithms by name, those that fit every filter that is given."""
        params = {"type": algorithm_type, "tag": tag, "device": device}
        return self._ask(list[AlgorithmInfo], "GET", "/v1/algorithms", params=params)

    def algorithm(self, name: str) -> AlgorithmInfo:
        """An algorithm and its versions."""
        return self._ask(AlgorithmInfo, "GET", path_of("algorithms", name))

    def version(self, name: str, version: str) -> AlgorithmVersion:
        """One version in full."""
        return self._ask(AlgorithmVersion, "GET", path_of("algorithms", name, version))

    def args_schema(self, name: str, version: str | None = None) -> dict[str, Any]:
        """JSON Schema of the args; of the current version where None."""
        return self._ask(dict[str, Any], "GET", path_of("algorithms", name, "args-schema"), params={"version": version})

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
            on_progress: is called with the bytes of all files that are sent or in the store already, and their number
                in total, in the threads that send them, by one at a time. An exception that it raises ends the call.
            on_stage: is called with the name of each stage: "hashing", "uploading", then "publishing" and the stages of
                the server, which from then on may publish it even if this call ends.

        Raises:
            InvalidPackageError, ImportFailedError, LoadFailedError: it cannot work; nothing was published.
            VersionConflictError: the version is there with other content.
            ForbiddenError: the token is not an admin's.
        """
        report = _without_repeats(on_stage)
        report("hashing")
        paths = {name: Path(path) for name, path in files.items()}
        hashes = {name: _sha256_of(path) for name, path in paths.items()}
        blobs = {sha256: paths[name] for name, sha256 in hashes.items()}
        tries = 0
        while True:
            report("uploading")
            self._store_blobs(blobs, on_progress)
            tries += 1
            try:
                return self._published(hashes, 1.0 if on_stage else LONG_POLL_S, report)
            except MissingBlobsError:  # they were stored, and were removed with another publication or version
                if tries == _PUBLISH_TRIES:
                    raise

    def use(self, name: str, version: str) -> AlgorithmInfo:
        """Make a version the one that requests without a version get."""
        address = path_of("algorithms", name, "current")
        return self._ask(AlgorithmInfo, "PUT", address, json=json_of({"version": version}))

    def remove(self, name: str, version: str, *, cancel_runs: bool = False) -> None:
        """Remove a version, after its runs have ended, or were cancelled if `cancel_runs`."""
        params = {"runs": "cancel" if cancel_runs else "wait"}
        self._http.call("DELETE", path_of("algorithms", name, version), params=params, wait_s=_LONGEST_RUN_S)

    def _published(self, hashes: Mapping[str, str], wait_s: float, report: Callable[[str], None]) -> AlgorithmVersion:
        """Have the server publish files that it has got; waits for the end."""
        report("publishing")
        while True:
            response = self._http.call(
                "POST",
                "/v1/algorithms",
                params={"wait_s": wait_s},
                json=json_of({"files": hashes}),
                wait_s=wait_s,
                repeatable=True,
            )
            with self._understanding("POST /v1/algorithms"):
                if response.status_code == 201:
                    return AlgorithmVersion.model_validate_json(response.content)
                report(Publication.model_validate_json(response.content).stage)

    def _store_blobs(self, blobs: Mapping[str, Path], on_progress: Progress | None) -> None:
        """Send what the server lacks, several files at a time; Ctrl-C and errors end all of them."""
        bodies = {sha256: of_file(path, content_type=_BINARY) for sha256, path in blobs.items()}
        total_bytes = sum(body.size_bytes for body in bodies.values())
        done_bytes = dict.fromkeys(bodies, 0)
        lock, stopped = Lock(), Event()

        def store(sha256: str) -> None:
            def on_sent(sent_bytes: int, _: int) -> None:
                if stopped.is_set():
                    raise InterruptedError
                with lock:
                    done_bytes[sha256] = sent_bytes
                    if on_progress:
                        on_progress(sum(done_bytes.values()), total_bytes)

            address, body = path_of("blobs", sha256), bodies[sha256]
            try:
                self._http.call("HEAD", address)
            except ObjectNotFoundError:
                self._http.call("PUT", address, body=body, on_progress=on_sent)
            on_sent(body.size_bytes, body.size_bytes)

        with ThreadPoolExecutor(_UPLOADS) as pool:
            try:
                for stored in as_completed([pool.submit(store, sha256) for sha256 in bodies]):
                    stored.result()
            except BaseException:
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_repeats(callback: Callable[[str], None] | None) -> Callable[[str], None]:
    """Calls the callback only for texts that differ from the one before."""
    last = ""

    def report(text: str) -> None:
        nonlocal last
        if callback is not None and text != last:
            callback(text)
        last = text

    return report
