"""The reference algorithms show every parameter type in use."""

from __future__ import annotations

from pathlib import Path

from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.packages.builder import build
from t3d_server.packages.parameters import TYPES

ALGORITHMS = Path(__file__).parents[2] / "algorithms"


def test_every_parameter_type_is_used() -> None:
    """Authors find an example of each."""
    folders = [path.parent for path in ALGORITHMS.glob("*/pyproject.toml")]
    manifests = [build(folder, tags=load_tags()).manifest for folder in folders]
    used = {parameter.type for manifest in manifests for parameter in manifest.additional_parameters}
    assert used == set(TYPES)
