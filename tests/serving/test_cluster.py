"""What is told of a cluster that cannot be started."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from t3d_server.errors import ServerUnavailableError, StoreUnavailableError
from t3d_server.serving.cluster import _as_own_errors


def test_a_fault_of_ray_is_told_in_a_line_and_its_traceback_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "start.log"
    message = f"cannot be started: no room\nThe traceback is in {log}"
    with pytest.raises(ServerUnavailableError, match=message), _as_own_errors(log):
        raise ConnectionError("the last lines of a log:\nno room")
    assert "ConnectionError: the last lines" in log.read_text()


def test_an_error_of_ours_comes_as_itself_also_from_another_process(tmp_path: Path) -> None:
    ours = StoreUnavailableError("no store")
    theirs: RayTaskError = RayTaskError("ready", "Traceback ...", ours)  # type: ignore[no-untyped-call]  # Ray's
    for error in (ours, theirs):
        with pytest.raises(StoreUnavailableError, match="no store"), _as_own_errors(tmp_path / "start.log"):
            raise error
