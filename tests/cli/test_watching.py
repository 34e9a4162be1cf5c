"""`t3d debug --watch` and `t3d deploy --watch`, by real saves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from typer.testing import CliRunner

from t3d_server.cli import developing
from t3d_server.cli.app import app
from t3d_server.cli.developing import _free_version
from t3d_server.cli.versions import Deployment
from t3d_server.client import Client
from t3d_server.packages.builder import build

if TYPE_CHECKING:
    from tests.conftest import Server

WriteAlgorithm = Callable[..., Path]
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
HOLDING = """
        self.log_message("holding")
        while True:
            self.set_progress(0.5)
"""
RUNNER = """
from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def load_assets(self):
        self.offset = 1

    def inference(self, data, args):
        return data + self.offset
"""


class Watching:
    """A command that watches.

    Args:
        command: the command.
        folder: where it is started.
        environment: its environment.
    """

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def until(self, text: str) -> str:
        """What it has printed since, when a line holds this text."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
        raise AssertionError(f"ended without {text!r}:\n{''.join(lines)}")


@contextmanager
def watching(environment: Mapping[str, str], folder: Path, *args: str) -> Iterator[Watching]:
    """A command that watches, started in a folder; Ctrl-C ends it with 130."""
    t3d = str(Path(sys.executable).with_name("t3d"))
    command = Watching([t3d, *args, "--watch"], folder, {**environment, "COLUMNS": "200"})
    try:
        yield command
        command.process.send_signal(signal.SIGINT)
        output, _ = command.process.communicate(timeout=100)
        assert command.process.returncode == 130, output
        assert "Traceback" not in output
    finally:
        command.process.kill()


def write(folder: Path, text: str) -> None:
    """Save `Runner.py` as editors do: beside it, and then in its place; Vim first tries whether it may write there."""
    (folder / "4913").touch()
    (folder / "4913").unlink()
    (folder / ".Runner.py.swp").write_text(text)
    (folder / "Runner.py~").write_text(text)
    (folder / "Runner.py~").replace(folder / "Runner.py")


def test_debug_runs_again_at_each_save(write_algorithm: WriteAlgorithm) -> None:
    """Errors are shown and the loop goes on; its own results, caches and backups of editors do not count."""
    folder = write_algorithm("seen", RUNNER)
    np.save(folder / "image.npy", IMAGE)
    output = folder / "t3d-output" / "debug"
    result, picture = output / "image-seen-image.npy", output / "seen.png"
    with watching(os.environ, folder, "debug", ".", "image.npy") as command:
        assert "t3d-output/debug/seen.png" in command.until("waiting for a save")
        np.testing.assert_array_equal(np.load(result), IMAGE + 1)
        picture.unlink()

        write(folder, RUNNER.replace("self.offset\n", "nowhere\n"))
        told = command.until("waiting for a save")
        assert re.search(r"^[\d:]{8} Runner.py saved$", told, re.M)
        assert 'File "Runner.py", line 10, in inference' in told
        assert "error: seen failed: NameError: name 'nowhere' is not defined" in told

        write(folder, RUNNER.replace("= 1", "= 7"))
        assert " Runner.py saved" in command.until("waiting for a save")
        np.testing.assert_array_equal(np.load(result), IMAGE + 7)
        assert picture.exists()


def test_a_save_stops_the_run_that_goes_on(write_algorithm: WriteAlgorithm) -> None:
    folder = write_algorithm("held", RUNNER.replace("args):", f"args):{HOLDING}"))
    np.save(folder / "image.npy", IMAGE)
    with watching(os.environ, folder.parent, "debug", "held", "held/image.npy", "-o", ".") as command:
        command.until("holding")
        write(folder, RUNNER)
        assert "held.png" in command.until("waiting for a save")


def test_deploy_keeps_one_development_version(
    server: Server, client: Client, write_algorithm: WriteAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each save takes the place of the one before; what was deployed before stays, and so does what has runs."""
    folder = write_algorithm("growing", RUNNER)
    client.publish({path.name: path for path in folder.iterdir()})
    manifest = folder / "pyproject.toml"
    with watching(server.environment, folder, "deploy", ".") as command:
        assert "deploying . now and at each save" in command.until("deploying")
        assert "growing 1.0.0 is deployed already" in command.until("waiting for a save")

        write(folder, RUNNER.replace("args):", f"args):{HOLDING}"))
        output = command.until("waiting for a save")
        assert " Runner.py saved" in output
        assert "growing 1.0.1 is deployed" in output
        assert 'version = "1.0.1"' in manifest.read_text()
        run = client.submit("growing", IMAGE)
        next(event for event in run.events() if event.message == "holding")

        (folder / "Runner.py").touch()  # changes nothing
        write(folder, RUNNER.replace("= 1", "= 1 / 0"))
        output = command.until("waiting for a save")
        assert output.count("saved") == 1
        assert 'File "Runner.py", line 7, in load_assets' in output
        assert "growing 1.0.2 could not load on cpu: ZeroDivisionError" in output
        assert 'version = "1.0.1"' in manifest.read_text()

        write(folder, RUNNER.replace("= 1", "= 3"))
        output = command.until("waiting for a save")
        assert "growing 1.0.2 is deployed" in output
        assert "growing 1.0.1 stays until a later save, as it has runs" in output
        assert client.run("growing", IMAGE)["image"][0, 0] == 3
        run.cancel()
        assert run.wait(60).status.ended

        write(folder, RUNNER.replace("= 1", "= 4"))
        output = command.until("waiting for a save")
        assert "growing 1.0.3 is deployed" in output
        assert "growing 1.0.1 is removed\ngrowing 1.0.2 is removed\n" in output
    assert client.algorithm("growing").versions == ["1.0.3", "1.0.0"]
    manifest.write_text(manifest.read_text().replace("1.0.3", "1.0.0"))
    assert _free_version(client, build(folder, tags={}), manifest) == "1.0.4"  # nothing takes a removed one

    def interrupted(*args: object) -> None:
        cast("Deployment", args[-1]).asked = True
        raise KeyboardInterrupt

    # The number that may have been published stays, so that the next deployment takes it from there.
    manifest.write_text(manifest.read_text().replace("1.0.4", "1.0.0"))
    monkeypatch.setattr(developing, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        developing._Folder(client, folder).update(set())
    assert 'version = "1.0.4"' in manifest.read_text()


def test_what_cannot_be_watched_is_refused(write_algorithm: WriteAlgorithm) -> None:
    folder = write_algorithm("refused")
    np.save(folder / "image.npy", IMAGE)
    ended = CliRunner().invoke(app, ["deploy", ".", "--watch", "--bump", "minor"])
    assert ended.exit_code == 2
    assert "leave --bump out" in ended.output

    into_itself = ["debug", str(folder), str(folder / "image.npy"), "--watch", "-o", str(folder)]
    assert "name another folder by -o" in str(CliRunner().invoke(app, into_itself).exception)
