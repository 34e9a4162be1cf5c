"""Where settings come from, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from t3d_server.errors import InvalidRequestError
from t3d_server.settings import load_settings

TOKEN = "0123456789abcdef"


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t3d.env"
    file.write_text(f"# ports\nT3D_PORT=9001\nT3D_IDLE_S=5\nT3D_TOKENS='{json.dumps({TOKEN: 'use'})}'\n")
    monkeypatch.setenv("T3D_SETTINGS_FILE", str(file))
    monkeypatch.setenv("T3D_IDLE_S", "7")
    settings = load_settings(host="127.0.0.2")
    assert (settings.port, settings.idle_s, settings.tokens, settings.host) == (9001, 7, {TOKEN: "use"}, "127.0.0.2")


def test_a_settings_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T3D_SETTINGS_FILE", "/nowhere/t3d.env")
    with pytest.raises(InvalidRequestError, match=r"T3D_SETTINGS_FILE .* not there: /nowhere/t3d\.env"):
        load_settings()


@pytest.mark.parametrize("tokens", ["{", '{"secret": "root"}'])
def test_every_bad_setting_is_told_at_once_and_no_secret(tmp_path: Path, tokens: str) -> None:
    """By `t3d up`, without a traceback: the variable, what was found, what is allowed."""
    bad = {"T3D_PORT": "abc", "T3D_AUTH": "maybe", "T3D_IDLE_S": "7d", "T3D_TOKENS": tokens, "T3D_PRT": "1"}
    ended = subprocess.run(
        [Path(sys.executable).with_name("t3d"), "up"],
        env={**os.environ, "T3D_STATE_DIR": str(tmp_path), **bad},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 1
    assert "did you mean 'T3D_PORT'" in ended.stderr
    _, *lines = ended.stderr.splitlines()
    assert {line.split(":")[0].strip(" -") for line in lines} == set(bad)
    assert "valid integer" in ended.stderr
    assert "found 'abc'" in ended.stderr
    assert "in seconds, but found '7d'" in ended.stderr
    assert "'on' or 'off', but found 'maybe'" in ended.stderr
    assert "secret" not in ended.stderr


def test_the_file_holds_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else stands there is told with its line: who wrote it believes that it is of effect."""
    file = tmp_path / "t3d.env"
    file.write_text(
        "T3D_HOST=::1\n\nT3D_PRT=1\n# a comment\nT3D_STATE_DIR=/x\nRAY_AUTH_MODE=token\nT3D_PORT\nT3D_TOKENS='{\n"
    )
    monkeypatch.setenv("T3D_SETTINGS_FILE", str(file))
    with pytest.raises(InvalidRequestError) as caught:
        load_settings()
    assert [(problem.key, problem.message.partition(";")[0]) for problem in caught.value.problems] == [
        (f"{file}, line 3", "T3D_PRT is no setting"),
        (f"{file}, line 5", "T3D_STATE_DIR is read from the environment alone"),
        (f"{file}, line 6", "RAY_AUTH_MODE is no setting"),
        (f"{file}, line 7", "NAME=value is expected"),
        (f"{file}, line 8", "NAME=value is expected"),
    ]


@pytest.mark.parametrize("content", [b"T3D_HOST=\xff", None])
def test_a_settings_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    file = tmp_path / "t3d.env"
    file.mkdir() if content is None else file.write_bytes(content)
    monkeypatch.setenv("T3D_SETTINGS_FILE", str(file))
    with pytest.raises(InvalidRequestError, match=f"T3D_SETTINGS_FILE .* cannot be read: {file}"):
        load_settings()


def test_faulty_tokens_are_told_by_their_places() -> None:
    """Never by themselves; who mistakes the two has the token where the role should be."""
    with pytest.raises(InvalidRequestError) as caught:
        load_settings(tokens={TOKEN: "use", "admin": TOKEN, "abc": "admin"})
    [problem] = caught.value.problems
    assert problem.message == (
        "the role of token 2 is neither 'use' nor 'admin'; "
        "token 2 is shorter than 16 characters: openssl rand -hex 32; "
        "token 3 is shorter than 16 characters: openssl rand -hex 32"
    )


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T3D_CORS_ORIGINS", "https://viewer.example.org, http://localhost:5173,")
    assert load_settings().cors_origins == ["https://viewer.example.org", "http://localhost:5173"]
    for wrong in ("https://viewer.example.org/", "viewer.example.org", "https://Viewer.example.org"):
        monkeypatch.setenv("T3D_CORS_ORIGINS", f"*,{wrong}")
        with pytest.raises(InvalidRequestError, match=f"T3D_CORS_ORIGINS: .*{wrong}: an origin is like"):
            load_settings()
