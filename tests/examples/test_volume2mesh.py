"""An algorithm type of a folder's own: on this machine, and published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t3d_server.client import Client
from t3d_server.errors import AlgorithmError, InvalidPackageError, InvalidRequestError
from t3d_server.packages.folder import scan
from t3d_server.testing import run

FOLDER = Path(__file__).parents[2] / "examples" / "volume2mesh"
SPACING = (2.0, 0.5, 0.25)
RADIUS = 10.0
SHAPES = [(16, 56, 104), (14, 60, 96)]


def ball(shape: tuple[int, int, int]) -> np.ndarray:
    """float32 (Z, Y, X): the distance from the centre in units of `SPACING`, negated, so that the inside is bright."""
    grid = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    distance: np.ndarray = np.sqrt(np.einsum("i...,i->...", grid**2, np.square(SPACING)))
    return -distance.astype(np.float32)


def volumes() -> list[Any]:
    return [{"volume": ball(shape), "spacing": SPACING, "spacing_unit": "nm"} for shape in SHAPES]


def level(volume: np.ndarray) -> float:
    """The arg `level` at which the surface is `RADIUS` away from the centre."""
    return float((-RADIUS - volume.min()) / (volume.max() - volume.min()))


def assert_ball(mesh: dict[str, np.ndarray], shape: tuple[int, int, int]) -> None:
    vertices, faces = mesh["vertices"], mesh["faces"]
    assert (vertices.dtype.name, faces.dtype.name) == ("float32", "int32")
    distances = np.linalg.norm(vertices - (np.array(shape) - 1) / 2 * SPACING, axis=1)
    np.testing.assert_allclose(distances, RADIUS, atol=0.1)
    assert (faces.min(), faces.max()) == (0, len(vertices) - 1)
    assert mesh["unit"] == "nm"


def test_each_volume_gives_a_mesh_in_physical_units() -> None:
    for volume, shape in zip(volumes(), SHAPES, strict=True):
        [mesh] = run(FOLDER, volume, {"level": level(ball(shape))})
        assert_ball(mesh, shape)
    assert [len(mesh["vertices"]) > 100 for mesh in run(FOLDER, volumes())] == [True, True]
    [plain] = run(FOLDER, {"volume": ball(SHAPES[0])})
    assert "unit" not in plain
    assert plain["vertices"].max() > 80


def test_what_no_surface_can_be_made_of_is_told() -> None:
    with pytest.raises(AlgorithmError, match="volume 1 has the same intensity everywhere"):
        run(FOLDER, [{"volume": ball((4, 5, 6))}, {"volume": np.zeros((4, 5, 6))}])
    with pytest.raises(AlgorithmError, match="allowed: \\(Z, Y, X\\)"):
        run(FOLDER, {"volume": np.zeros((4, 5))})


def test_a_type_that_its_class_does_not_have_is_refused_with_both_names(tmp_path: Path) -> None:
    """As a replica refuses it, where the import is not tried before."""
    folder = shutil.copytree(FOLDER, tmp_path / "mistyped")
    manifest = (folder / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(manifest.replace('"Volume2Mesh"', '"Volume2Mash"'))
    with pytest.raises(InvalidPackageError) as caught:
        run(folder, volumes())
    [problem] = caught.value.problems
    assert "found 'Volume2Mash', but Runner derives from Volume2MeshRunner, whose type is 'Volume2Mesh'" in str(problem)
    assert "did you mean 'Volume2Mesh'?" in str(problem)


def test_the_type_and_its_description_come_from_the_published_class(client: Client, tmp_path: Path) -> None:
    """Minified, and as the replica tells that loads it, since the import is not tried before."""
    folder = shutil.copytree(FOLDER, tmp_path / "unchecked")
    manifest = (folder / "pyproject.toml").read_text().replace('"volume2mesh"', '"unchecked-mesh"')
    manifest = manifest.replace("check_importable = true", "check_importable = false")
    (folder / "pyproject.toml").write_text(manifest.replace('["isosurface"]', '["isosurface", "isosurfaces"]'))
    client.publish(scan(folder)[0])
    [info] = client.algorithms(algorithm_type="Volume2Mesh", tag="isosurfaces")
    assert info.version.warnings == [
        "tool.t3dserver.tags[1]: 'isosurfaces' is no known tag of 'Volume2Mesh'; did you mean 'isosurface'?"
    ]
    inputs, outputs = info.version.manifest.inputs, info.version.manifest.outputs
    assert inputs is not None
    assert (inputs.min_datasets, inputs.max_datasets) == (1, None)
    assert {key.key: key.shapes for key in inputs.keys or () if not key.optional} == {"volume": ["(Z, Y, X)"]}
    assert outputs is not None
    assert outputs.count == "one for each input, in order"
    assert {key.key: (key.shapes, key.dtypes, bool(key.description)) for key in outputs.keys or ()} == {
        "vertices": (["(V, 3)"], ["float32"], True),
        "faces": (["(F, 3)"], ["int32"], True),
        "unit": ([], [], True),
    }

    with pytest.raises(InvalidRequestError, match=r"found 0 datasets, unchecked-mesh .* takes 1 or more"):
        client.submit("unchecked-mesh", [])
    assert len(client.run("unchecked-mesh", volumes())) == 2
    assert_ball(client.run("unchecked-mesh", volumes()[0], args={"level": level(ball(SHAPES[0]))}), SHAPES[0])
