"""What `t3d new` writes works as it is, and passes every check that its author has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.cli.app import app
from t3d_server.cli.scaffold import AlgorithmType
from t3d_server.models import Manifest
from t3d_server.packages.folder import scan
from t3d_server.packages.manifest import parse_manifest
from t3d_server.testing import run

TYPES = get_args(AlgorithmType)
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder of each type, as the command makes it."""
    parent = tmp_path_factory.mktemp("new")
    folders = [parent / name for name in TYPES]
    for folder in folders:
        assert t3d("new", folder, "--type", folder.name).exit_code == 0
    return folders


def t3d(*args: object) -> Result:
    """Runs the command."""
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.mark.parametrize("name", TYPES)
def test_what_is_new_is_checked_without_a_warning(folders: list[Path], name: str) -> None:
    ended = t3d("check", folders[TYPES.index(name)])

    assert f"{name} 0.1.0 is fine: {name}, on cpu, 1 parameter" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize("name", TYPES)
def test_its_sample_can_be_run(folders: list[Path], name: str) -> None:
    folder = folders[TYPES.index(name)]
    [sample] = (folder / "tests").glob("sample.*")

    assert run(folder, sample)


@pytest.mark.parametrize(
    "command",
    [
        ["pytest", "-q", "-p", "no:cacheprovider"],
        ["ruff", "check", "--no-cache"],
        ["ruff", "format", "--check", "--no-cache"],
    ],
    ids=" ".join,
)
def test_their_tests_and_linters_pass(folders: list[Path], command: list[str]) -> None:
    """One call for all of them, as in a repository with several algorithms. `make types` checks their types."""
    ended = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=folders[0].parent,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


@pytest.mark.parametrize("name", TYPES)
def test_the_manifest_tells_of_every_field(folders: list[Path], name: str) -> None:
    """Those that are commented out are right when the sign is taken away."""
    text = (folders[TYPES.index(name)] / "pyproject.toml").read_text()
    optional = re.findall(r"^# (\w+ = .+)$", text, re.MULTILINE)
    for line in optional:
        manifest, warnings = parse_manifest(
            text.replace(f"# {line}", line).replace('["cpu"]\n', '["cpu", "gpu"]\n'), tags=load_tags()
        )
        assert warnings == []
        assert manifest.description
    told = {line.split(" =")[0] for line in [*optional, *text.splitlines()]}
    assert set(Manifest.model_fields) - told == {"gpu_memory_bytes", "inputs", "outputs"}


def test_tests_and_results_are_not_deployed(folders: list[Path]) -> None:
    folder = folders[0]
    (folder / "t3d-output").mkdir()
    (folder / "t3d-output" / "result.png").write_bytes(b"")

    assert (folder / "tests" / "sample.png").exists()
    assert list(scan(folder)[0]) == ["README.md", "Runner.py", "pyproject.toml"]


def test_the_beginning_of_a_type_is_enough_for_a_hint(tmp_path: Path) -> None:
    assert "did you mean 'Image2Segmentation'?" in t3d("new", tmp_path / "blobs", "--type", "Image2Seg").stderr


def test_warnings_are_counted_by_the_verdict(tmp_path: Path) -> None:
    t3d("new", tmp_path / "blobs")
    with (tmp_path / "blobs" / "Runner.py").open("a") as file:
        file.write("\n\ndef forgotten() -> None:\n    breakpoint()\n")

    ended = t3d("check", tmp_path / "blobs")

    assert ended.exit_code == 0
    assert "blobs 0.1.0 can be deployed, with 1 warning: Image2Image" in ended.stdout


@pytest.mark.parametrize("command", [[], ["new"], ["debug"]])
def test_h_is_short_for_help(command: list[str]) -> None:
    assert t3d(*command, "-h").stdout == t3d(*command, "--help").stdout != ""


def test_what_is_there_and_bad_names_are_refused_together(tmp_path: Path) -> None:
    (tmp_path / "my algorithm").mkdir()
    told = str(t3d("new", tmp_path / "my algorithm").exception)

    assert "'my algorithm' is not 1 to 64 of the characters A-Z a-z 0-9 . _ -, such as 'my_algorithm'" in told
    assert "my algorithm: is there already" in told


def test_the_case_of_a_type_does_not_matter(tmp_path: Path) -> None:
    assert t3d("new", tmp_path / "lower", "--type", "image2segmentation").exit_code == 0
    assert 'algorithm_type = "Image2Segmentation"' in (tmp_path / "lower" / "pyproject.toml").read_text()


def test_an_unknown_type_tells_those_there_are(tmp_path: Path) -> None:
    ended = t3d("new", tmp_path / "other", "--type", "Image2Segment")

    assert ended.exit_code == 2
    for name in TYPES:
        assert name in ended.stderr
    assert "did you mean 'Image2Segmentation'?" in ended.stderr
