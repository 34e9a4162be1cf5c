"""Any algorithm of the server in napari: a form for its parameters, its input from a layer, its results as layers.

    pip install -e ".[napari]"
    t3d deploy algorithms/denoise
    python examples/napari_form.py photo.png

The form is made of the JSON Schema that the server gives for the args. magicgui makes the widgets, here and in
notebooks; what needs napari is in `open_panel` and `main` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, Container, Label, PushButton, create_widget

from t3d_server import Client

LayerData = tuple[Any, dict[str, Any], str]
"""Data, options and kind of a layer, as napari takes them."""

TYPES = {"string": str, "integer": int, "number": float, "boolean": bool}
SLIDER_LIMIT = 2**31
NO_LIMIT = 2**53
LONGEST_STATE = 50


def form_of(schema: Mapping[str, Any]) -> Container[Any]:
    """Widgets for the args that users may set; `form.asdict()` gives their values.

    Args:
        schema: JSON Schema of the args: `client.args_schema(name)`.
    """
    shown = {name: each for name, each in schema["properties"].items() if each["x-adjustable"]}
    return Container(widgets=[_field(name, each) for name, each in shown.items()])


def _field(name: str, schema: Mapping[str, Any]) -> Any:
    value, options = schema["default"], {"tooltip": schema["description"]}
    if "enum" in schema:
        return ComboBox(name=name, value=value, choices=schema["enum"], **options)
    if schema["type"] == "array":
        kind = TYPES[schema["items"]["type"]]
        return create_widget(name=name, value=list(map(kind, value)), annotation=list[kind], options=options)  # type: ignore[valid-type]  # magicgui reads it
    kind = TYPES[schema["type"]]
    widget = None
    if "minimum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        options |= {"min": low, "max": high, "step": schema.get("x-step")}
        if kind is float:
            widget = "FloatSlider"
        elif low >= -SLIDER_LIMIT and high < SLIDER_LIMIT:
            widget = "Slider"
    elif kind is float:
        widget = "LiteralEvalLineEdit"  # a spin box would round
    elif kind is int:
        options |= {"min": -NO_LIMIT, "max": NO_LIMIT}
    return create_widget(name=name, value=kind(value), annotation=kind, widget_type=widget, options=options)


def dataset_of(layer: Any) -> dict[str, Any]:
    """What an image layer holds, as a dataset.

    Args:
        layer: an image layer of napari; anything with its `data`, `rgb` and `scale`.
    """
    axes = "ZYX"[-len(layer.scale) :] + ("C" if layer.rgb else "")
    return {"image": np.asarray(layer.data), "axes": axes, "spacing": tuple(map(float, layer.scale))}


def layers_of(values: Mapping[str, Any], name: str) -> list[LayerData]:
    """The layers that show a dataset: images, masks and points; all else is in their metadata.

    Args:
        values: a dataset, as `client.fetch` gives it.
        name: how the names of the layers begin.
    """
    kinds = {"image": "image", "volume": "image", "mask": "labels", "points": "points"}
    spacing = values.get("spacing")
    rest = {key: value for key, value in values.items() if key not in kinds}
    layers: list[LayerData] = []
    for key, kind in kinds.items():
        array = values.get(key)
        options: dict[str, Any] = {"name": f"{name} {key}", "metadata": rest}
        if array is None:
            continue
        if key == "image":
            options["rgb"] = "C" in values["axes"]
            array = np.moveaxis(array, 0, -1) if values["axes"] == "CYX" else array
        if spacing is not None:
            options["scale"] = tuple(map(float, spacing))
        layers.append((array, options, kind))
    return layers


def run(
    client: Client, name: str, dataset: Mapping[str, Any], args: Mapping[str, Any]
) -> Generator[tuple[float, str], None, list[LayerData]]:
    """Run an algorithm on a dataset.

    Args:
        client: a connection.
        name: the algorithm.
        dataset: its input.
        args: its args.

    Yields:
        How far it is, 0 to 1, and what it says.

    Returns:
        Layers that show the results.
    """
    handle = client.submit(name, [dataset], args=args)
    for event in handle.events():
        yield event.progress, event.message
    return [layer for values in handle.result() for layer in layers_of(values, name)]


def panel(client: Client, start: Any) -> Container[Any]:
    """A choice of algorithms, the form of the chosen one, and a button.

    Args:
        client: a connection to a server that has an algorithm.
        start: called by the button with the algorithm's name, the args, and a function that takes progress.
    """
    names = [info.name for info in client.algorithms()]
    chooser = ComboBox(label="algorithm", choices=names, value=names[0])
    button, state = PushButton(text="Run"), Label(value="")
    form = form_of(client.args_schema(chooser.value))
    whole: Container[Any] = Container(widgets=[chooser, form, button, state])

    def show_form(name: str) -> None:
        nonlocal form
        form = form_of(client.args_schema(name))
        del whole[1]
        whole.insert(1, form)

    def show_progress(event: tuple[float, str]) -> None:
        state.value = f"{event[0]:.0%} {event[1]}"[:LONGEST_STATE]  # a dock is as wide as its widest line

    chooser.changed.connect(show_form)
    button.changed.connect(lambda: start(chooser.value, form.asdict(), show_progress))
    return whole


def main(paths: list[str]) -> None:
    """Open napari with images and the panel."""
    import napari
    from napari.layers import Image, Layer
    from napari.utils.notifications import show_error, show_warning
    from superqt.utils import create_worker

    viewer = napari.Viewer()
    viewer.open(paths)
    client = Client()

    def start(name: str, args: dict[str, Any], show_progress: Any) -> None:
        layer = viewer.layers.selection.active
        if not isinstance(layer, Image):
            show_warning("Select an image layer first.")
            return

        def add(layers: list[LayerData]) -> None:
            for data in layers:
                viewer.add_layer(Layer.create(*data))

        work = partial(run, client, name, dataset_of(layer), args)
        heard = {"yielded": show_progress, "returned": add, "errored": lambda error: show_error(str(error))}
        create_worker(work, _connect=heard, _start_thread=True)

    viewer.window.add_dock_widget(panel(client, start), name="t3d")
    napari.run()


if __name__ == "__main__":
    main(sys.argv[1:])
