"""What `T3D` checks itself, before the server gets a call; `tests/serving/test_handles.py` has a server."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from t3d_server.errors import InvalidRequestError
from t3d_server.handles import T3D

IMAGE = np.eye(4, dtype=np.uint8)


@pytest.fixture
def t3d() -> T3D:
    """Without a cluster: its handle only records what is called."""
    t3d = T3D.__new__(T3D)
    t3d._handle = MagicMock()
    return t3d


@pytest.mark.parametrize(
    "args", [{"sigma": object()}, {"sigma": math.nan}, ["sigma", 1], ""], ids=["object", "nan", "list", "text"]
)
def test_args_that_are_no_json_are_refused_before_anything_is_sent(t3d: T3D, args: Any) -> None:
    for call in (t3d.submit, t3d.run):
        with pytest.raises(InvalidRequestError):
            call("blur", IMAGE, args)
    assert t3d._handle.method_calls == []


def test_args_of_numpy_are_sent_as_plain_values(t3d: T3D) -> None:
    t3d.submit("blur", "0199aaaa-0000-7000-8000-000000000000", {"size": np.int64(3), "sigmas": np.array([0.5, 1.0])})
    [call] = t3d._handle.submit.remote.mock_calls
    assert call.args[2] == {"size": 3, "sigmas": [0.5, 1.0]}
    assert type(call.args[2]["size"]) is int
