"""Empty text as an argument of a command: it names nothing, and no default takes its place."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from t3d_server.cli import algorithms, arguments, runs, submitting
from t3d_server.cli.app import main
from t3d_server.errors import AlgorithmNotFoundError, InvalidRequestError
from t3d_server.ids import new_id


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The client of the commands: it knows one run, and the versions 1.0.0 and 1.0.1 of one algorithm."""
    client = MagicMock()
    client.__enter__.return_value = client
    client.runs.return_value = [MagicMock(id=new_id())]
    client.algorithm.return_value.versions = ["1.0.0", "1.0.1"]
    client.version.side_effect = AlgorithmNotFoundError("None of the algorithms is 'blur/'.")
    for module in (algorithms, runs, submitting):
        monkeypatch.setattr(module, "Client", lambda: client)
    return client


def failed(monkeypatch: pytest.MonkeyPatch, *command: str) -> bool:
    """Whether a command ends with an error."""
    monkeypatch.setattr(sys, "argv", ["t3d", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code == 1


def test_an_empty_id_is_not_the_beginning_of_a_run(client: MagicMock) -> None:
    for empty in ("", " "):
        with pytest.raises(InvalidRequestError, match="empty"):
            arguments.full_id(client, empty)


@pytest.mark.parametrize("command", ["cancel", "logs", "results"])
def test_commands_do_nothing_to_a_run_of_an_empty_id(
    client: MagicMock, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert failed(monkeypatch, command, "")
    client.cancel.assert_not_called()
    client.log.assert_not_called()
    client.handle.assert_not_called()


def test_an_empty_version_is_not_all_of_them(client: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(monkeypatch, "remove", "blur", "", "--yes")
    client.remove.assert_not_called()


def test_an_empty_version_is_not_the_current_one(
    client: MagicMock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    monkeypatch.chdir(tmp_path)
    assert failed(monkeypatch, "run", "blur", "a.npy", "--version", "")
    client.upload.assert_not_called()
    client.submit.assert_not_called()
