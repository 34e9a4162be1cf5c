"""`--bump` raises the version in the author's file, and takes it back where nothing came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from t3d_server.cli.versions import raised_version
from t3d_server.errors import InvalidPackageError, LoadFailedError, ServerUnavailableError

TEXT = b'[project]\r\nname = "a"  # the name\r\nversion = "1.2.3"\r\n[tool.x]\r\nversion = "9.9.9"\r\n'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(TEXT)
    return path


def failing(manifest: Path, error: BaseException, *, asked: bool) -> None:
    """A deployment that fails before or after the server was asked to publish."""
    with raised_version(manifest, "minor") as deployment:
        deployment.asked = asked
        raise error


@pytest.mark.parametrize(("part", "version"), [("major", b"2.0.0"), ("minor", b"1.3.0"), ("patch", b"1.2.4")])
def test_the_version_is_raised_and_nothing_else_changes(manifest: Path, part: str, version: bytes) -> None:
    with raised_version(manifest, part):  # type: ignore[arg-type]  # parametrized
        pass
    assert manifest.read_bytes() == TEXT.replace(b"1.2.3", version)


def test_without_bump_the_file_is_left_alone(manifest: Path) -> None:
    with raised_version(manifest, None):
        assert manifest.read_bytes() == TEXT


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (LoadFailedError("no"), True),
        (LoadFailedError("no"), False),
        (KeyboardInterrupt(), False),
        (ServerUnavailableError("gone"), False),
    ],
)
def test_a_failure_takes_it_back(manifest: Path, error: BaseException, asked: bool) -> None:
    with pytest.raises(type(error)):
        failing(manifest, error, asked=asked)
    assert manifest.read_bytes() == TEXT


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ServerUnavailableError("gone")])
def test_where_it_may_have_been_published_it_stays(
    manifest: Path, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        failing(manifest, error, asked=True)
    assert b"1.3.0" in manifest.read_bytes()
    assert "the raised version stays" in capsys.readouterr().err


def test_a_version_that_cannot_be_raised_is_told(manifest: Path) -> None:
    manifest.write_text("[project]\nname = 'a'\n")
    with pytest.raises(InvalidPackageError, match=r"project\.version"), raised_version(manifest, "patch"):
        pass
