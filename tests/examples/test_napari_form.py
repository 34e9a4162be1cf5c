"""The form for napari, with magicgui's widgets for notebooks: they need neither a display nor Qt."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import magicgui
import numpy as np
import pytest

from t3d_server.client import Client
from t3d_server.models import Manifest, Parameter
from t3d_server.packages.folder import scan
from t3d_server.packages.parameters import TYPES, args_schema, resolve_args

ROOT = Path(__file__).parents[2]
CONFIGS: dict[str, dict[str, Any]] = {
    "string": {"default": "hello"},
    "int": {"default": -(10**12)},
    "float": {"default": 1e-9},
    "bool": {"default": True},
    "int_range": {"default": 42, "min": 0, "max": 100, "step": 2},
    "float_range": {"default": 3.14159, "min": 0.0, "max": 10.0},
    "string_enum": {"default": "b", "options": ["a", "b"]},
    "int_enum": {"default": 43, "options": [42, 43]},
    "float_enum": {"default": 0.5, "options": [0.5, 1.0]},
    "string_list": {"default": ["a", "b"]},
    "int_list": {"default": []},
    "float_list": {"default": [0.5, 1.0]},
    "bool_list": {"default": [True, False]},
}
PARAMETERS = [
    Parameter(name=name, description=f"It is {name}.", type=name, **config) for name, config in CONFIGS.items()
]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example, as a module."""
    magicgui.use_app("ipynb")
    spec = importlib.util.spec_from_file_location("napari_form", ROOT / "examples" / "napari_form.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema_of(*parameters: Parameter) -> dict[str, Any]:
    return args_schema(Manifest(name="example", version="1.0.0", additional_parameters=list(parameters)))


def test_every_parameter_type_has_a_field(example: ModuleType) -> None:
    """With its default and its help; what the user sets is what a run accepts."""
    form = example.form_of(schema_of(*PARAMETERS))

    assert {parameter.type for parameter in PARAMETERS} == TYPES.keys()
    assert form.asdict() == {parameter.name: parameter.default for parameter in PARAMETERS}
    assert all(field.tooltip == f"It is {field.name}." for field in form)
    form["int_range"].value = 44
    form["string_list"].value = ["c"]
    args = form.asdict()
    assert resolve_args(PARAMETERS, args) == args
    assert (args["int_range"], args["string_list"]) == (44, ["c"])


def test_parameters_for_programs_are_not_shown(example: ModuleType) -> None:
    hidden = PARAMETERS[0].model_copy(update={"adjustable": False})

    assert example.form_of(schema_of(hidden, PARAMETERS[1])).asdict() == {"int": -(10**12)}


def test_results_become_layers(example: ModuleType) -> None:
    """Channels come last, spacing is the scale, and what cannot be shown is in the metadata."""
    colour = {"image": np.zeros((3, 4, 5), np.uint8), "axes": "CYX", "spacing": np.array([0.5, 0.25]), "note": "text"}
    [(image, options, kind)] = example.layers_of(colour, "first")
    assert (image.shape, kind, options["rgb"]) == ((4, 5, 3), "image", True)
    assert (options["name"], options["scale"], options["metadata"]["note"]) == ("first image", (0.5, 0.25), "text")

    found = {"volume": np.zeros((2, 4, 5)), "mask": np.zeros((2, 4, 5), int), "points": np.zeros((1, 3))}
    assert [kind for _, _, kind in example.layers_of(found, "second")] == ["image", "labels", "points"]


def test_a_layer_goes_to_the_server_and_comes_back(example: ModuleType, client: Client) -> None:
    """By the panel's choice, form and button."""
    client.publish(scan(ROOT / "algorithms" / "denoise")[0])
    asked: list[Any] = []
    panel = example.panel(client, lambda *given: asked.extend(given))
    panel[0].value = "denoise"
    panel[1]["method"].value = "tv_chambolle"
    panel[2].changed.emit(True)
    name, args, show_progress = asked
    layer = SimpleNamespace(data=np.zeros((3, 16, 20), np.uint16), rgb=False, scale=np.array([2.0, 1.0, 1.0]))

    layers: list[Any] = []

    def follow() -> Iterator[Any]:
        layers.extend((yield from example.run(client, name, example.dataset_of(layer), args)))

    for progress in follow():
        show_progress(progress)

    assert args == {"method": "tv_chambolle", "strength": 1.0, "sigma": 0.0}
    assert panel[3].value.startswith("100%")
    [(image, options, kind)] = layers
    assert (image.shape, image.dtype, kind) == ((3, 16, 20), np.uint16, "image")
    assert (options["scale"], options["rgb"]) == ((2.0, 1.0, 1.0), False)
