"""The reader of a document: a home in which `t3d up` has been called, and a folder with some images."""

from __future__ import annotations

import json
import os
import shutil
import sys
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


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    """Noise, uint8 (Y, X)."""
    return np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)


@pytest.fixture(scope="session")
def stack() -> np.ndarray:
    """Noise, uint16 (Z, Y, X)."""
    return np.random.default_rng(1).integers(0, 4095, (4, 48, 64), np.uint16)


@pytest.fixture(scope="session")
def home(server: Server, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home; `denoise` is deployed."""
    client.publish(scan(ROOT / "algorithms" / "denoise")[0])
    home = tmp_path_factory.mktemp("home")
    (home / ".local" / "state").mkdir(parents=True)
    (home / ".local" / "state" / "t3d").symlink_to(server.state_dir)
    return home


@pytest.fixture
def here(
    home: Path, server: Server, image: np.ndarray, stack: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder in which the test now works, and in whose environment everything is found."""
    for name in os.environ:
        if name.startswith(("T3D_", "RAY_", "XDG_")):
            monkeypatch.delenv(name)
    address = json.loads((server.state_dir / "server.json").read_text())["ray_address"]
    variables = {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": server.environment["RAY_AUTH_TOKEN"],
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image).save("photo.png")
    tifffile.imwrite("scan.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    for name in ("algorithms", "examples"):
        Path(name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "deploy", "deploy")  # where readers fill in files
    return tmp_path
