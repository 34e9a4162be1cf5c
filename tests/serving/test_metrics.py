"""The server's own series, as Prometheus gets them from Ray."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests

from t3d_server.client import Client
from t3d_server.errors import AlgorithmError

if TYPE_CHECKING:
    from tests.conftest import Server

WANTED = {
    ("ray_t3d_runs_ended_total", frozenset({'algorithm="probe"', 'status="COMPLETED"', 'code=""'})),
    ("ray_t3d_runs_ended_total", frozenset({'algorithm="probe"', 'status="FAILED"', 'code="algorithm_error"'})),
    ("ray_t3d_run_seconds_count", frozenset({'algorithm="probe"'})),
    ("ray_t3d_run_queue_seconds_count", frozenset({'algorithm="probe"'})),
    ("ray_t3d_runs_waiting", frozenset({'algorithm="probe"'})),
    ("ray_t3d_runs_running", frozenset({'algorithm="probe"'})),
}
RAYS_LABELS = ("Component", "NodeAddress", "SessionName", "Version", "WorkerId", "otel_")


def read(target: str) -> str:
    """What an endpoint tells."""
    return requests.get(f"http://{target}/metrics", timeout=60).text


def series(text: str) -> set[tuple[str, frozenset[str]]]:
    """Names of series with their labels, without those that Ray adds to all."""
    found = set()
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        labels = rest.partition("}")[0].split(",")
        found.add((name, frozenset(label for label in labels if not label.startswith(RAYS_LABELS))))
    return found


@pytest.mark.usefixtures("probe")
def test_runs_are_counted_at_rays_endpoint(server: Server, client: Client) -> None:
    """Also in queues, and with how long they take; each series has the labels that are documented and no run's id."""
    image = client.upload(np.zeros((2, 2), np.uint8))
    client.run("probe", image)
    with pytest.raises(AlgorithmError):
        client.run("probe", image, args={"mode": "raises"})
    headers = {"Authorization": f"Bearer {server.environment['RAY_AUTH_TOKEN']}"}
    found = requests.get(f"{server.dashboard_url}/api/prometheus/sd", headers=headers, timeout=60).json()
    targets = [target for each in found for target in each["targets"]]
    while WANTED - {each for target in targets for each in series(read(target))}:
        time.sleep(0.5)  # Ray hands them on now and then
