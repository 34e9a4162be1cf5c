"""Sends slices through an algorithm by the v0 API, as desktop clients do, and saves what comes back.

T3D_V0_PORT=5481 t3d up                                   (or: T3D_URL and T3D_TOKEN of the port of v1)
t3d deploy algorithms/denoise
python examples/v0_client.py denoise 1 results
"""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import requests

URL = os.environ.get("T3D_URL", "http://127.0.0.1:5481")
POLL_S = 0.05
ENDED = ("COMPLETED", "FAILED", "STOPPED")


class Api(requests.Session):
    """The server; the port of v1 needs a token, that of v0 does not."""

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """The answer to a request; ends the program where it is an error."""
        response = self.request(method, URL + path, timeout=60, **options)
        if not response.ok:
            failure = response.json()
            sys.exit(f"{failure['code']}: {failure['detail']}")
        return response


def packed(image: np.ndarray) -> bytes:
    """A slice as HDF5: one dataset at the root."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.create_dataset("image", data=image)
    return file.getvalue()


def main(name: str, major: str, folder: Path) -> None:
    """Upload, execute, poll, download."""
    api = Api()
    if token := os.environ.get("T3D_TOKEN"):
        api.headers["Authorization"] = f"Bearer {token}"
    algorithm = api.call("GET", f"/api/v0/algorithm/{name}/{major}").json()
    print(f"{algorithm['algorithm_name']} {major}.{algorithm['latest_algorithm_minor_version']}")

    noise = np.random.default_rng(0)
    slices = [noise.integers(90, 110, (64, 80), np.uint8) for _ in range(3)]
    ids = [api.call("POST", "/api/v0/files", data=packed(image)).json()["file_id"] for image in slices]

    request = {"algorithm_id": algorithm["algorithm_id"], "input_dataset_ids": ids, "additional_parameters": {}}
    execution_id = api.call("POST", "/api/v0/execute-algorithm", json=request).json()["execution_id"]
    while (record := api.call("GET", f"/api/v0/executions/{execution_id}").json())["status"] not in ENDED:
        print(f"{record['status']} {record['progress']:.0%}")
        time.sleep(POLL_S)
    print(record["log"], end="")
    if record["status"] != "COMPLETED":
        sys.exit(record["status"])

    folder.mkdir(exist_ok=True)
    for number, output in enumerate(record["output_dataset_ids"]):
        content = api.call("GET", f"/api/v0/files/{output}").content
        (folder / f"{number}.h5").write_bytes(content)
        with h5py.File(io.BytesIO(content)) as root:
            print(f"{number}.h5: {', '.join(f'{key} {root[key].shape}' for key in root)}")
    for file_id in [*ids, *record["output_dataset_ids"]]:
        api.call("DELETE", f"/api/v0/files/{file_id}")
    print(record["status"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
