"""The client against the real app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from t3d_server.errors import AlgorithmError

if TYPE_CHECKING:
    from tests.api.conftest import Server


def test_run_uploads_runs_and_fetches(server: Server) -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with server.client() as client:
        assert np.array_equal(client.run("probe", image, args={"amount": 3})["image"], image + 3)
        results = client.run("probe", [image, image + 1])
        assert [result["image"][0, 0] for result in results] == [1, 2]


def test_a_failed_run_raises_with_the_authors_traceback(server: Server) -> None:
    with server.client() as client:
        handle = client.submit("probe", np.zeros((3, 4), np.uint8), args={"mode": "fail"})
        with pytest.raises(AlgorithmError, match="the image is too green") as caught:
            handle.result()
    assert caught.value.traceback is not None
    assert "Runner.py" in caught.value.traceback
