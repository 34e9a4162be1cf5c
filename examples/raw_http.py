"""Denoises a PNG by the HTTP API alone: a pattern for clients in any language.

t3d deploy algorithms/denoise
export T3D_URL=http://127.0.0.1:8000 T3D_TOKEN=$(cat ~/.local/state/t3d/token)
python examples/raw_http.py photo.png clean.png
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import requests

WAIT_S = 30
"""How long the server may wait for the end of a run before it answers; it allows 60."""


class ProblemError(Exception):
    """What the server says is wrong: `application/problem+json`, RFC 9457.

    Attributes:
        code: a stable name of the error, for programs; the text is for people.
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        faults = [f"  {fault['key']}: {fault['message']}" for fault in problem["errors"]]
        super().__init__("\n".join([f"{problem['code']}: {problem['detail']}", *faults]))
        self.code: str = problem["code"]


class Api(requests.Session):
    """The server at `T3D_URL`."""

    def __init__(self) -> None:
        super().__init__()
        if missing := {"T3D_URL", "T3D_TOKEN"} - os.environ.keys():
            sys.exit(f"{' and '.join(sorted(missing))}: not set; see the first lines of {__file__}")
        self.base = os.environ["T3D_URL"].rstrip("/") + "/v1"
        self.headers["Authorization"] = f"Bearer {os.environ['T3D_TOKEN']}"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """The answer to a request; raises `ProblemError` where it is one."""
        # Longer than the server waits, so that it is always the server that answers.
        response = self.request(method, self.base + path, timeout=2 * WAIT_S, **options)
        if response.headers.get("Content-Type", "").startswith("application/problem+json"):
            raise ProblemError(response.json())
        response.raise_for_status()  # no answer of the server itself: of a proxy in front, while it restarts
        return response


def main(source: Path, target: Path) -> None:
    """Upload, run, wait, download."""
    api = Api()
    dataset = api.call("POST", "/datasets", data=source.read_bytes(), headers={"Content-Type": "image/png"}).json()
    print(f"uploaded {dataset['arrays']['image']}, axes {dataset['axes']}")

    # An arg that does not fit is refused before anything runs, and so is every other one beside it.
    request = {"input_dataset_ids": [dataset["id"]], "args": {"method": "blur"}}
    try:
        api.call("POST", "/algorithms/denoise/runs", json=request)
    except ProblemError as error:
        print(f"refused: {error}")

    request = {"input_dataset_ids": [dataset["id"]], "args": {"method": "nl_means"}}
    run = api.call("POST", "/algorithms/denoise/runs", json=request, params={"wait_s": WAIT_S}).json()
    while run["status"] in ("PENDING", "RUNNING"):
        print(f"{run['status']} {run['progress']:.0%} {run['message']}")
        run = api.call("GET", f"/runs/{run['id']}", params={"wait_s": WAIT_S}).json()
    if run["status"] != "COMPLETED":
        sys.exit(f"{run['status']}: {run['error']['type']}: {run['error']['message']}")

    [output] = run["output_dataset_ids"]
    picture = api.call("GET", f"/datasets/{output}", params={"array": "image"}, headers={"Accept": "image/png"})
    target.write_bytes(picture.content)
    print(f"{run['status']}: {target}, {len(picture.content)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
