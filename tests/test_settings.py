"""Where settings come from, and what is said of those that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from t3d_server.errors import InvalidRequestError
from t3d_server.settings import load_settings


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t3d.env"
    file.write_text('T3D_PORT=9001\nT3D_IDLE_S=5\nT3D_TOKENS={"a": "use"}\n')
    monkeypatch.setenv("T3D_SETTINGS_FILE", str(file))
    monkeypatch.setenv("T3D_IDLE_S", "7")
    settings = load_settings(host="127.0.0.2")
    assert (settings.port, settings.idle_s, settings.tokens, settings.host) == (9001, 7, {"a": "use"}, "127.0.0.2")


def test_a_settings_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T3D_SETTINGS_FILE", "/nowhere/t3d.env")
    with pytest.raises(InvalidRequestError, match=r"T3D_SETTINGS_FILE .* not there: /nowhere/t3d\.env"):
        load_settings()


@pytest.mark.parametrize("tokens", ["{", '{"secret": "root"}'])
def test_every_bad_setting_is_told_at_once_and_no_secret(tmp_path: Path, tokens: str) -> None:
    """By `t3d up`, without a traceback: the variable, what was found, what is allowed."""
    bad = {"T3D_PORT": "abc", "T3D_AUTH": "maybe", "T3D_IDLE_S": "0", "T3D_TOKENS": tokens}
    ended = subprocess.run(
        [Path(sys.executable).with_name("t3d"), "up"],
        env={**os.environ, "T3D_STATE_DIR": str(tmp_path), **bad},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    _, *lines = ended.stderr.splitlines()
    assert {line.split(":")[0].strip(" -") for line in lines} == set(bad)
    assert "valid integer" in ended.stderr
    assert "found 'abc'" in ended.stderr
    assert "'on' or 'off', but found 'maybe'" in ended.stderr
    assert "secret" not in ended.stderr


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T3D_CORS_ORIGINS", "https://viewer.example.org, http://localhost:5173,")
    assert load_settings().cors_origins == ["https://viewer.example.org", "http://localhost:5173"]
    for wrong in ("https://viewer.example.org/", "viewer.example.org", "https://Viewer.example.org"):
        monkeypatch.setenv("T3D_CORS_ORIGINS", f"*,{wrong}")
        with pytest.raises(InvalidRequestError, match=f"T3D_CORS_ORIGINS: .*{wrong}: an origin is like"):
            load_settings()
