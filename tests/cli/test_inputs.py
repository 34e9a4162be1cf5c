"""What the commands take as inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from t3d_server.cli.inputs import check_inputs, naming
from t3d_server.errors import AlgorithmError, InvalidRequestError, Problem
from t3d_server.ids import new_id, version_1


def test_inputs_that_are_not_there_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    check_inputs([str(tmp_path / "a.png"), new_id(), version_1(new_id())], ids=True)
    (tmp_path / "a.czi").touch()
    with pytest.raises(InvalidRequestError) as told:
        check_inputs(["nothere.png", "01a2-not-an-id", str(tmp_path), str(tmp_path / "a.czi")], ids=True)
    first, second, third = told.value.message.split("; ", 2)
    assert (first, second) == ("nothere.png: no such file", "01a2-not-an-id: neither a file nor a dataset id")
    assert third.startswith("a.czi: the format '.czi' is not read")
    with pytest.raises(InvalidRequestError, match="no such file"):
        check_inputs([new_id()], ids=False)


def test_errors_name_files_and_not_their_ids() -> None:
    first, second = new_id(), new_id()
    error = AlgorithmError(f"{first} is odd", problems=[Problem(second, "too")], traceback=f"at {first}", run_id="r")
    with pytest.raises(AlgorithmError) as told, naming({first: "a.png", second: "b.png"}):
        raise error
    assert str(told.value) == "a.png is odd\n  - b.png: too\n\nat a.png"
    assert told.value.run_id == "r"
