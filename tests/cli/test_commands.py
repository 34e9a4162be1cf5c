"""The `t3d` command against a real server."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest
import tifffile
from PIL import Image

from t3d_server.cli.app import main
from t3d_server.client import Client
from t3d_server.errors import ForbiddenError, UnauthorizedError
from t3d_server.models import RunStatus
from t3d_server.storage.s3 import S3ObjectStore

if TYPE_CHECKING:
    from tests.conftest import Server

IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
STACK = np.arange(120, dtype=np.uint16).reshape(4, 5, 6)
RUNNER = """
from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    def load_assets(self):
        self.offset = int(bytes(self.fetch_asset("files/offset.txt")))

    def inference(self, data, args):
        self.log_message(f"gain {args['gain']}")
        return data * args["gain"] + self.offset
"""
TABLE = """
description = "Gain and offset."
additional_parameters = [{name = "gain", description = "A factor.", config = {type = "int", default = 1}}]
"""
T3d = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def t3d(server: Server, tmp_path_factory: pytest.TempPathFactory) -> T3d:
    """Runs the command as a user of the suite's server does: `t3d("list")`; in this process, which saves its start.

    There is a terminal where an `answer` is to be given.
    """

    def t3d(*args: object, code: int = 0, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["t3d", *map(str, args)]
        output, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**server.environment, **environment}, clear=True),
            mock.patch.object(sys, "argv", command),
            mock.patch.object(sys, "stdin", io.StringIO(answer)) as keyboard,
            mock.patch.object(keyboard, "isatty", return_value=bool(answer)),
            chdir(tmp_path_factory.mktemp("cwd")),
            redirect_stdout(output),
            redirect_stderr(errors),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        told, faults = output.getvalue(), errors.getvalue()
        assert ended.value.code == code, f"{ended.value.code}:\n{told}\n{faults}"
        assert "Traceback" not in faults or code == 1
        return subprocess.CompletedProcess(command, code, told, faults)

    return t3d


@pytest.fixture(scope="module")
def folder(write_algorithm: Callable[..., Path]) -> Path:
    """A folder whose offset, an asset, is 10."""
    return write_algorithm("gain", RUNNER, table=TABLE, files={"files/offset.txt": "10"})


@pytest.fixture(scope="module")
def gain(t3d: T3d, folder: Path) -> Path:
    """The folder, deployed by the command."""
    assert "gain 1.0.0 is deployed (Image2Image, loaded on cpu)" in t3d("deploy", folder).stdout
    return folder


def write_image(path: Path, array: np.ndarray) -> None:
    """Write a PNG, TIFF or npy file."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, metadata={"axes": "ZYX"}, imagej=True)
    else:
        Image.fromarray(array).save(path)


def read_image(path: Path) -> np.ndarray:
    """Read such a file."""
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    return np.asarray(tifffile.imread(path) if path.suffix == ".tif" else Image.open(path))


def saved(ended: subprocess.CompletedProcess[str]) -> list[Path]:
    """The files that a command says it wrote."""
    files = [Path(line) for line in ended.stdout.splitlines() if line.startswith("/")]
    assert all(file.exists() for file in files)
    return files


def test_usage_errors_exit_with_2(t3d: T3d) -> None:
    t3d("run", code=2)
    t3d("no-such-command", code=2)


def test_a_server_that_is_not_there_exits_with_3(t3d: T3d, tmp_path: Path) -> None:
    ended = t3d("list", code=3, T3D_STATE_DIR=str(tmp_path))

    assert "Start one by `t3d up`" in ended.stderr


def test_a_second_up_says_what_runs(t3d: T3d, server: Server) -> None:
    """And starts nothing."""
    ended = t3d("up")

    assert server.url in ended.stdout
    assert server.dashboard_url in ended.stdout
    assert str(server.process.pid) in ended.stdout
    assert len([command for command in server.processes().values() if command.endswith("t3d up")]) == 1


def test_the_version_is_that_of_the_server(t3d: T3d, client: Client) -> None:
    assert t3d("--version").stdout == f"t3d_server {client.server().version}\n"


def test_the_token_is_for_its_owner_alone(server: Server) -> None:
    for name in ("token", "server.json"):
        assert stat.S_IMODE((server.state_dir / name).stat().st_mode) == 0o600


def test_a_use_token_runs_and_does_not_publish(server: Server, gain: Path) -> None:
    """Another token does nothing."""
    with server.client("use-token-of-the-suite") as user:
        assert user.run("gain", IMAGE)["image"][0, 1] == 11
        told = set()
        for forbidden in (
            lambda: user.publish({"Runner.py": gain / "Runner.py"}),
            lambda: user.use("gain", "1.0.0"),
            lambda: user.remove("gain", "1.0.0"),
        ):
            with pytest.raises(ForbiddenError, match=r"This needs an admin token.*T3D_TOKEN") as refused:
                forbidden()
            told.add(str(refused.value))
        assert len(told) == 1
    with server.client("wrong") as stranger, pytest.raises(UnauthorizedError):
        stranger.algorithms()


def test_check_tells_what_a_good_folder_is(t3d: T3d, folder: Path) -> None:
    ended = t3d("check", folder)

    assert "gain 1.0.0 is fine: Image2Image, on cpu, 1 parameter, 1 asset" in ended.stdout


def test_check_lists_all_problems(t3d: T3d, write_algorithm: Callable[..., Path]) -> None:
    """Those of the manifest and those of the code together."""
    bad = write_algorithm("bad", "class Runner:\n    pass\n", version="one", table='supported_devices = ["tpu"]')
    ended = t3d("check", bad, code=1)

    for text in ("project.version", "supported_devices", "Runner.py:1", "inherits from nothing"):
        assert text in ended.stderr


def test_check_tells_of_a_missing_module_once(t3d: T3d, write_algorithm: Callable[..., Path]) -> None:
    """And of those that the import did not come to."""
    told = t3d("check", write_algorithm("lost", f"import nowhere\nimport neither\n{RUNNER}"), code=1).stderr

    assert told.count("the folder has no nowhere.py") == 1
    assert told.count("warning: Runner.py:2: the folder has no neither.py") == 1


def test_debug_runs_the_authors_own_file(server: Server, folder: Path, tmp_path: Path) -> None:
    """Without a server, so that breakpoints hit; it saves outputs and a picture, and tells the time of each phase."""
    source = tmp_path / "image.png"
    Image.fromarray(IMAGE).save(source)
    hook = (
        'import logging, sys\nlogging.getLogger("author").info("is heard")\n'
        'print("breakpoint in", sys._getframe(1).f_code.co_filename)\n'
    )
    (tmp_path / "hook.py").write_text(f"def stop():\n    {hook.replace(chr(10), chr(10) + '    ')}\n")
    runner = folder / "Runner.py"
    text = runner.read_text()
    runner.write_text(text.replace("        return data", "        breakpoint()\n        return data"))
    environment = {
        **server.environment,
        "T3D_STATE_DIR": str(tmp_path / "nowhere"),
        "PYTHONBREAKPOINT": "hook.stop",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    try:
        ended = subprocess.run(
            [server.command, "debug", folder, source, "-a", "gain=2", "-o", tmp_path / "out"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
    finally:
        runner.write_text(text)

    assert f"breakpoint in {runner}" in ended.stdout
    assert "INFO author: is heard" in ended.stderr
    for phase in ("load_assets", "preprocess", "inference", "postprocess"):
        assert phase in ended.stdout
    output, picture = saved(ended)
    assert output.name == "image-gain-image.png"  # as `t3d run` names it
    np.testing.assert_array_equal(np.asarray(Image.open(output)), IMAGE * 2 + 10)
    assert Image.open(picture).size[0] > 0


def test_debug_shows_where_the_code_failed(t3d: T3d, write_algorithm: Callable[..., Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", IMAGE)
    failing = write_algorithm(
        "failing", RUNNER.replace("return data", "return nowhere"), files={"files/offset.txt": "1"}
    )
    manifest = failing / "pyproject.toml"
    manifest.write_text(manifest.read_text() + TABLE)
    ended = t3d("debug", failing, tmp_path / "image.npy", code=1)

    assert 'File "Runner.py", line 11, in inference' in ended.stderr
    assert "NameError: name 'nowhere' is not defined" in ended.stderr


def test_debug_shows_the_text_that_was_returned(t3d: T3d, write_algorithm: Callable[..., Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", IMAGE)
    runner = f"{RUNNER}\n    def postprocess(self, inference_output, args):\n        return ['done']\n"
    speaking = write_algorithm("speaking", runner, files={"files/offset.txt": "1"})
    manifest = speaking / "pyproject.toml"
    manifest.write_text(manifest.read_text() + TABLE)
    ended = t3d("debug", speaking, tmp_path / "image.npy", "-o", tmp_path / "out")

    assert "postprocess returned text in place of ids of datasets: 'done'" in ended.stdout + ended.stderr
    assert [path.name for path in saved(ended)] == ["speaking.png"]


@pytest.mark.parametrize(
    ("name", "array"), [("image.png", IMAGE), ("stack.tif", STACK), ("stack.npy", STACK)], ids=["png", "tiff", "npy"]
)
def test_run_gives_files_of_the_inputs_kind(t3d: T3d, gain: Path, tmp_path: Path, name: str, array: np.ndarray) -> None:
    """In the folder that `-o` names; parameters are given by `-a`."""
    source = tmp_path / name
    write_image(source, array)
    [output] = saved(t3d("run", "gain", source, "-a", "gain=3", "-o", tmp_path / "out"))

    assert output == tmp_path / "out" / f"{source.stem}-gain-image{source.suffix}"
    np.testing.assert_array_equal(read_image(output), array * 3 + 10)


def test_run_refuses_what_does_not_fit(t3d: T3d, gain: Path, server_store: S3ObjectStore, tmp_path: Path) -> None:
    """And warns of what may be taken for something else; nothing is left of what was uploaded."""
    before = list(server_store.list("datasets/"))
    np.save(tmp_path / "image.npy", np.stack([IMAGE] * 3))
    ended = t3d("run", "gain", tmp_path / "image.npy", "-a", "gain=much", "-a", "gian=1", code=1)
    assert "args.gain: found 'much' (string), allowed is an integer" in ended.stderr
    assert "args.gian: unknown" in ended.stderr
    ended = t3d("run", "gain", tmp_path / "image.npy", "--device", "gpu", code=1)
    warnings = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "image.npy: taken as one colour image of 3 channels; give axes='ZYX'" in warnings[0]
    assert "no_such_file" in t3d("run", "gain", tmp_path / "no_such_file.png", code=1).stderr
    assert list(server_store.list("datasets/")) == before


def test_runs_and_logs_tell_of_a_run(t3d: T3d, gain: Path, client: Client) -> None:
    """Which may be called by the beginning of its id."""
    handle = client.submit("gain", IMAGE, args={"gain": 4})
    handle.wait(60)

    line = next(line for line in t3d("runs", "--algorithm", "gain").stdout.splitlines() if handle.id in line)
    assert "COMPLETED" in line
    assert "gain 4" in t3d("logs", handle.id[:24]).stdout


def test_results_are_what_run_saves(t3d: T3d, gain: Path, client: Client, tmp_path: Path) -> None:
    """Of a run that nobody has waited for, by the beginning of its id; inputs name the files, else ids do."""
    write_image(tmp_path / "photo.png", IMAGE)
    ended = t3d("run", "gain", tmp_path / "photo.png", "-a", "gain=2", "--no-wait")
    run = client.get_run(ended.stdout.strip())
    assert f"t3d results {run.id} {tmp_path / 'photo.png'}" in ended.stderr
    [named] = saved(t3d("results", run.id[:24], "photo.png", "-o", tmp_path))
    assert f"{named}: is there already" in t3d("results", run.id, "photo.png", "-o", tmp_path, code=1).stderr
    [other] = saved(t3d("results", run.id, "-o", tmp_path))

    assert (named.name, other.name) == ("photo-gain-image.png", f"{run.input_dataset_ids[0]}-gain-image.png")
    np.testing.assert_array_equal(read_image(named), IMAGE * 2 + 10)


@pytest.mark.usefixtures("gain")
def test_a_beginning_that_is_not_of_one_run_is_refused(t3d: T3d, client: Client) -> None:
    for _ in range(2):
        client.submit("gain", IMAGE).wait(60)
    latest = [run.id for run in client.runs(limit=2)]

    assert f"runs begin with '0': {latest[0]}, {latest[1]}" in t3d("cancel", "0", code=1).stderr
    assert "no recent run begins with 'x'" in t3d("cancel", "x", code=1).stderr


def test_a_failed_run_shows_why_and_where(t3d: T3d, gain: Path, client: Client, tmp_path: Path) -> None:
    """With the author's traceback at once, and shortly in the list of runs."""
    np.save(tmp_path / "image.npy", IMAGE)
    ended = t3d("run", "gain", tmp_path / "image.npy", "-a", "gain=300", code=1)

    run = client.runs(algorithm="gain", limit=1)[0]
    assert 'File "Runner.py", line 11, in inference' in ended.stderr
    assert f"`t3d logs {run.id}` shows" in ended.stderr
    line = next(line for line in t3d("runs").stdout.splitlines() if run.id in line)
    assert run.error is not None
    assert f"  {run.error.type}: {run.error.message.splitlines()[0]}" in line


@pytest.mark.usefixtures("probe")
def test_cancel_stops_a_run(t3d: T3d, client: Client, tmp_path: Path) -> None:
    handle = client.submit("probe", IMAGE, args={"mode": "holds", "path": str(tmp_path / "never")})
    next(run for run in handle.events() if run.message == "holding")

    t3d("cancel", handle.id)
    assert handle.wait(60).status is RunStatus.CANCELLED


@pytest.mark.usefixtures("probe")
def test_ctrl_c_exits_with_130(server: Server, client: Client, tmp_path: Path) -> None:
    """And cancels the run that it waits for."""
    np.save(tmp_path / "image.npy", IMAGE)
    before = {run.id for run in client.runs(limit=1)}
    path = tmp_path / "never"
    process = subprocess.Popen(
        [server.command, "run", "probe", "image.npy", "-a", "mode=holds", "-a", f"path={path}"],
        env=server.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not (runs := client.runs(limit=1)) or runs[0].id in before or runs[0].status is not RunStatus.RUNNING:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=200)

    assert process.returncode == 130
    assert "Traceback" not in output
    assert client.get_run(runs[0].id, wait_s=60).status is RunStatus.CANCELLED


def test_deploy_bump_use_and_remove(t3d: T3d, gain: Path, client: Client) -> None:
    """Changed content needs another version, which `--bump` makes; `use` rolls back; `remove` takes all of it away."""
    assert "gain 1.0.0 is deployed already, and serves: nothing has changed\n" in t3d("deploy", gain).stdout
    (gain / "files" / "offset.txt").write_text("20")
    assert "--bump patch" in t3d("deploy", gain, code=1).stderr

    assert "gain 1.0.1 is deployed" in t3d("deploy", gain, "--bump", "patch").stdout
    assert 'version = "1.0.1"' in (gain / "pyproject.toml").read_text()
    assert client.run("gain", IMAGE)["image"][0, 0] == 20
    t3d("use", "gain", "1.0.0")
    assert client.run("gain", IMAGE)["image"][0, 0] == 10
    line = next(line for line in t3d("list").stdout.splitlines() if line.startswith("gain"))
    assert "1.0.1, 1.0.0" in line
    assert "Gain and offset." in line

    assert "all of gain (1.0.1, 1.0.0) is removed only with --yes" in t3d("remove", "gain", code=1).stderr
    assert "Remove all of gain (1.0.1, 1.0.0)? [y/N]" in t3d("remove", "gain", answer="n\n", code=1).stderr
    t3d("remove", "gain", "1.0.1", answer="y\n")
    assert client.algorithm("gain").versions == ["1.0.0"]
    t3d("remove", "gain", "--yes")
    assert "gain" not in {info.name for info in client.algorithms()}
    assert "gain" in t3d("remove", "gain", code=1).stderr


def test_deploy_shows_the_authors_traceback(t3d: T3d, write_algorithm: Callable[..., Path], tmp_path: Path) -> None:
    """Also after a folder that cannot be deployed: all are tried."""
    broken = write_algorithm("broken", RUNNER, files={"files/offset.txt": "ten"})
    ended = t3d("deploy", tmp_path / "nowhere", broken, code=1)

    assert f"not deployed: {tmp_path / 'nowhere'}, {broken}" in ended.stderr

    assert 'File "Runner.py", line 7, in load_assets' in ended.stderr
    assert "invalid literal for int()" in ended.stderr
