"""The examples run as their first lines say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from t3d_server.client import Client
from t3d_server.packages.folder import scan

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).parents[2]

RunExample = Callable[..., str]


@pytest.fixture
def run_example(server: Server, client: Client, tmp_path: Path) -> RunExample:
    """`run_example("raw_http", "a.png", T3D_URL=...) -> output`, in `tmp_path`; `denoise` is deployed."""
    client.publish(scan(ROOT / "algorithms" / "denoise")[0])

    def run(name: str, *args: str, **environment: str) -> str:
        ended = subprocess.run(
            [sys.executable, str(ROOT / "examples" / f"{name}.py"), *args],
            env={**server.environment, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


def test_a_notebook_uses_client(run_example: RunExample, tmp_path: Path) -> None:
    output = run_example("client_notebook")

    for line in (
        "denoised: uint8 (256, 256)",
        "ZYX, spacing (2.0, 0.65, 0.65) um",
        "COMPLETED 100%",
        "result: (6, 256, 256), axes ZYX",
        "2 results",
        "args.metod: unknown",
        "args.strength: found 9",
        "sigma is -1.0",
    ):
        assert line in output, output
    assert Image.open(tmp_path / "denoise.png").width > 0


def test_http_is_enough(run_example: RunExample, server: Server, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(90, 110, (64, 80), np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")

    output = run_example("raw_http", "photo.png", "clean.png", T3D_URL=server.url, T3D_TOKEN="use-token-of-the-suite")

    assert "refused: invalid_args" in output
    clean = np.asarray(Image.open(tmp_path / "clean.png"))
    assert clean.shape == image.shape
    assert clean.std() < image.std() / 2


def test_desktop_clients_need_no_token_on_their_port(run_example: RunExample, server: Server) -> None:
    output = run_example("v0_client", "denoise", "1", "results", T3D_URL=server.v0_url)

    assert output.endswith("COMPLETED\n")
    assert "2.h5: image (64, 80)" in output


def test_other_ray_applications_use_handles(run_example: RunExample, server: Server) -> None:
    address = json.loads((server.state_dir / "server.json").read_text())["ray_address"]

    output = run_example("from_ray", RAY_ADDRESS=address, RAY_AUTH_MODE="token", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")

    assert "driver: noise 10.0 -> " in output
    assert "task: noise 10.0 -> " in output
    assert "deployment: [(256, 256), (128, 256)]" in output
    assert "args.strength: found 9" in output


def test_a_stack_is_registered(run_example: RunExample, client: Client, tmp_path: Path) -> None:
    client.publish(scan(ROOT / "algorithms" / "align")[0])

    output = run_example("register_stack")

    assert "slice 7: x +23." in output
    slices = tifffile.imread(tmp_path / "registered.ome.tif").astype(float)[:, 60:-60, 60:-60]
    assert slices.shape == (8, 136, 136)
    assert np.abs(slices - slices[0]).mean() < 10  # the noise of the sample
