"""`ImageRunner`: what the four image types share, from datasets to a stack of slices and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from t3d_server.algorithm_utils.arrays import Array
from t3d_server.algorithm_utils.axes import resolve_axes
from t3d_server.algorithm_utils.io_schemas import ImageSchema, to_array
from t3d_server.algorithm_utils.TypedRunner import TypedRunner
from t3d_server.errors import InvalidDatasetError, Problem


@dataclass(frozen=True)
class Layout:
    """How one input dataset lies in the stack that `inference` sees.

    Attributes:
        slices: how many slices it contributes.
        stacked: whether it is a stack; a single image is not, even though it contributes one slice.
        channels_first: whether its colours come before its pixels.
        size: (height, width) in pixels.
        spacing: distance of samples for each spatial axis, if known.
        spacing_unit: its unit, if known.
        finite: whether no intensity is NaN or infinite.
    """

    slices: int
    stacked: bool
    channels_first: bool
    size: tuple[int, int]
    spacing: tuple[float, ...] | None
    spacing_unit: str | None
    finite: bool

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(Z, Y, X) of a stack, (Y, X) of a single image."""
        return (self.slices, *self.size) if self.stacked else self.size

    def inherited(self, spatial_shape: tuple[int, ...]) -> dict[str, Any]:
        """Spacing for an output of this spatial shape: that of the input, unless the shape has changed."""
        if spatial_shape != self.spatial_shape or self.spacing is None:
            return {}
        return {"spacing": self.spacing, "spacing_unit": self.spacing_unit}


class ImageRunner(TypedRunner):
    """Base of the runners whose input are images.

    The stack is made of the run's inputs that were fetched, in the order of the run, however they were fetched. So the
    default `postprocess` of the types can take the result apart again, also after an author's own `preprocess`.
    """

    input_schema = ImageSchema
    input_rule = (
        "A single image gives one slice, a stack all of its slices. "
        "All slices of a run have one shape, with or without colour, and one dtype."
    )
    output_count = "one for each input, in order"
    _input_ids: list[str]
    _layouts: dict[str, Layout]

    def run(self, input_data: dict[str, Any], args: dict[str, Any]) -> list[str]:
        """Run the algorithm; see `BaseRunner.run`."""
        self._input_ids = list(input_data["input_dataset_ids"])
        self._layouts = {}
        return super().run(input_data, args)

    def fetch_data(self, dataset_ids: list[str], *keys: str, parallel: bool = False) -> list[dict[str, Any]]:  # type: ignore[override]
        """Read images; see `TypedRunner.fetch_data`."""
        datasets = super().fetch_data(dataset_ids, parallel=parallel)
        self._layouts.update(zip(dataset_ids, map(_layout, datasets), strict=True))
        return [{key: dataset.get(key) for key in keys} for dataset in datasets] if keys else datasets

    def post_data(self, output: list[dict[str, Any]]) -> list[str]:  # type: ignore[override]
        """Store results, and log how many of their values are NaN or infinite if those of the inputs are not.

        See `TypedRunner.post_data`.
        """
        ids = super().post_data(output)
        if all(layout.finite for layout in self._layouts.values()):
            values = [value for dataset in output for value in dataset.values() if isinstance(value, np.ndarray)]
            if count := sum(map(_count_not_finite, values)):
                self.log_message(
                    f"{count} of the results' values {'is' if count == 1 else 'are'} NaN or infinite", "WARNING"
                )
        return ids

    def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> np.ndarray:
        """Fetch the images and make one stack of their slices.

        Args:
            input_data: `{"input_dataset_ids": [id, ...]}`; datasets of one image each, or stacks.
            args: not used.

        Returns:
            (N, Y, X) or (N, Y, X, 3), the dtype of the input; N counts the slices of all datasets, in order.

        Raises:
            InvalidDatasetError: there is no dataset, or shapes or dtypes differ.
        """
        ids = input_data["input_dataset_ids"]
        if not ids:
            raise InvalidDatasetError(f"{self.algorithm_type} needs at least one input dataset, but got none")
        stacks = [self._to_slices(dataset) for dataset in self.fetch_data(ids)]
        if len({(stack.shape[1:], stack.dtype) for stack in stacks}) > 1:
            raise InvalidDatasetError(
                "the images cannot be stacked: their slices differ in shape or dtype; run them one by one",
                problems=[
                    Problem(dataset_id, f"slices of shape {stack.shape[1:]}, {stack.dtype}")
                    for dataset_id, stack in zip(ids, stacks, strict=True)
                ],
            )
        return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)

    def _to_slices(self, dataset: dict[str, Any]) -> np.ndarray:
        """(N, Y, X) or (N, Y, X, 3): the slices of one dataset."""
        image: np.ndarray = dataset["image"]
        axes = resolve_axes(image.shape, dataset.get("axes"))
        if axes == "CYX":
            image = np.moveaxis(image, 0, -1)
        if "C" in axes:
            if image.shape[-1] == 4:
                self.log_message("The image has an alpha channel, which is dropped.", "WARNING")
            image = image[..., :3]
        return image if axes.startswith("Z") else image[np.newaxis]

    def _input_layouts(self) -> list[Layout]:
        """The layouts of the run's inputs that were fetched, in the order of the run."""
        return [self._layouts[dataset_id] for dataset_id in self._input_ids if dataset_id in self._layouts]

    def _regroup(self, output: Any) -> Iterator[tuple[Layout, Any]]:
        """Takes N slices, as array or list, apart: those of each input, without axis 0 where it is a single image."""
        layouts = self._input_layouts()
        expected = sum(layout.slices for layout in layouts)
        if len(output) != expected:
            raise ValueError(
                f"{self.algorithm_type}: `inference` must return one result for each of the {expected} input slices, "
                f"but returned {len(output)}"
            )
        start = 0
        for layout in layouts:
            part = output[start : start + layout.slices]
            start += layout.slices
            yield layout, part if layout.stacked else part[0]

    def _checked(self, output: Any, form: Array, *, expected: str, remedy: str = "") -> np.ndarray:
        """What `inference` returned, or an item of it, as an array; a list of equal-shaped ones is stacked.

        Args:
            output: what it returned.
            form: what the array may be.
            expected: the same in words.
            remedy: what to do about another dtype; by default, how to convert it.

        Raises:
            TypeError: it is something else.
        """
        hint = ""
        try:
            array = to_array(output)
        except ValueError as error:
            is_tuple = isinstance(output, tuple)
            alone = "; a tuple is taken as a list of slices: return the array alone" if is_tuple else ""
            array, hint = None, f": {error}{alone}"
        if isinstance(array, np.ndarray):
            with suppress(ValueError):
                return form.check(array)  # type: ignore[no-any-return]  # an array gives an array
            found = f"{array.dtype} {array.shape}"
            if array.dtype.name not in form.dtypes:
                hint = f"; {_conversion(array, form, remedy)}"
            elif form.shapes[0].startswith("(N"):
                with suppress(ValueError):
                    form.check(array[np.newaxis])
                    hint = "; the first axis counts the results: return out[np.newaxis] for one, np.stack(...) of more"
        else:
            found = "None; is a `return` missing?" if output is None else type(output).__name__
            if isinstance(output, dict):
                hint = "; return the array alone, of which the server makes the dictionary"
        raise TypeError(f"{self.algorithm_type}: `inference` must return {expected}, but returned {found}{hint}")


def _conversion(array: np.ndarray, form: Array, remedy: str) -> str:
    """How an array of a dtype that is not allowed becomes one that is."""
    if array.dtype.kind == "c":
        return "take its magnitude by np.abs(out), or its real part by out.real"
    if remedy:
        return remedy
    limits = np.iinfo(np.int32)
    is_whole = array.dtype.kind in "biu" and "int32" in form.dtypes and array.size > 0
    fits = is_whole and int(array.min()) >= limits.min and int(array.max()) <= limits.max
    return f"convert it by .astype(np.{'int32' if fits else 'float32'})"


def _count_not_finite(array: np.ndarray) -> int:
    """How many values of an array are NaN or infinite."""
    if array.dtype.kind != "f":
        return 0
    # A sum takes a fraction of the time of a look at each value, and no memory.
    with np.errstate(all="ignore"):
        suspicious = not np.isfinite(array.sum())
    return int(array.size - np.count_nonzero(np.isfinite(array))) if suspicious else 0


def _layout(dataset: dict[str, Any]) -> Layout:
    shape = dataset["image"].shape
    axes = resolve_axes(shape, dataset.get("axes"))
    stacked = axes.startswith("Z")
    return Layout(
        slices=shape[0] if stacked else 1,
        stacked=stacked,
        channels_first=axes == "CYX",
        size=(shape[axes.index("Y")], shape[axes.index("X")]),
        spacing=dataset.get("spacing"),
        spacing_unit=dataset.get("spacing_unit"),
        finite=not _count_not_finite(dataset["image"]),
    )
