"""From datasets to the stack that `inference` sees, and back to one result for each dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from t3d_server.algorithm_utils import Image2ImageRunner

RNG = np.random.default_rng(0)


def runner(inference: Callable[[Any], Any] = lambda data: data) -> type[Image2ImageRunner]:
    """A runner with this `inference`."""
    return type("Runner", (Image2ImageRunner,), {"inference": lambda self, data, args: inference(data)})


def seen_by_inference(bench: Any, *inputs: dict[str, Any]) -> np.ndarray:
    """The stack that `inference` gets for these datasets."""
    seen: list[np.ndarray] = []

    def inference(data: np.ndarray) -> np.ndarray:
        seen.append(data)
        return data

    bench.results(runner(inference), inputs)
    return seen[0]


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return RNG.integers(0, 255, shape).astype(dtype)


def test_single_images_make_a_stack_in_order(bench: Any) -> None:
    """N datasets of one image each are (N, Y, X), their dtype untouched."""
    images = [pixels(5, 7, dtype="uint16") for _ in range(3)]
    data = seen_by_inference(bench, *({"image": image} for image in images))
    assert data.dtype == np.uint16
    np.testing.assert_array_equal(data, np.stack(images))


def test_stacks_and_single_images_mix_and_come_back_as_they_were(bench: Any) -> None:
    """A stack contributes its slices; results are regrouped to one dataset per input, in order."""
    stack, image, single_slice = pixels(4, 6, 5), pixels(6, 5), pixels(1, 6, 5)
    inputs: list[dict[str, Any]] = [
        {"image": stack, "axes": "ZYX"},
        {"image": image},
        {"image": single_slice, "axes": "ZYX"},
    ]
    assert seen_by_inference(bench, *inputs).shape == (6, 6, 5)

    results = bench.results(runner(lambda data: data + 1), inputs)

    for result, original, axes in zip(results, (stack, image, single_slice), ("ZYX", "YX", "ZYX"), strict=True):
        np.testing.assert_array_equal(result["image"], original + 1)
        assert result["axes"] == axes


@pytest.mark.parametrize(
    ("shape", "axes", "expected", "result_axes"),
    [
        ((5, 7, 3), None, (1, 5, 7, 3), "YXC"),
        ((3, 5, 7), None, (1, 5, 7, 3), "CYX"),
        ((3, 5, 7), "ZYX", (3, 5, 7), "ZYX"),
        ((2, 5, 3), "ZYX", (2, 5, 3), "ZYX"),
        ((2, 5, 7, 3), None, (2, 5, 7, 3), "ZYXC"),
        ((2, 5, 7), None, (2, 5, 7), "ZYX"),
    ],
)
def test_axes_decide_the_layout(
    bench: Any, shape: tuple[int, ...], axes: str | None, expected: tuple[int, ...], result_axes: str
) -> None:
    """Axes that a dataset tells go before those that its shape suggests; colour comes last there, and goes back."""
    image = pixels(*shape)
    data = seen_by_inference(bench, {"image": image, "axes": axes})
    assert data.shape == expected
    colour_first = axes is None and shape[0] == 3
    np.testing.assert_array_equal(data.squeeze(), np.moveaxis(image, 0, -1) if colour_first else image)
    [result] = bench.results(runner(), [{"image": image, "axes": axes}])
    assert result["axes"] == result_axes
    np.testing.assert_array_equal(result["image"], image)


@pytest.mark.parametrize(("shape", "axes"), [((5, 7, 4), "YXC"), ((2, 5, 7, 4), "ZYXC"), ((4, 5, 7), "CYX")])
def test_alpha_is_dropped_with_a_warning(bench: Any, shape: tuple[int, ...], axes: str) -> None:
    """RGBA becomes RGB, and the log says so."""
    image = pixels(*shape)
    data = seen_by_inference(bench, {"image": image, "axes": axes})
    assert data.shape[-1] == 3
    assert data.shape[-3:-1] == (5, 7)
    assert bench.log_lines == [("WARNING", "The image has an alpha channel, which is dropped.")]


def test_mixed_shapes_and_dtypes_name_every_dataset(bench: Any) -> None:
    """The error lists each id with what it holds."""
    inputs = [{"image": pixels(5, 7)}, {"image": pixels(6, 7)}, {"image": pixels(5, 7, dtype="uint16")}]
    message = bench.failure(runner(), inputs)
    assert message.startswith("InvalidDatasetError: the images cannot be stacked")
    for dataset_id, found in zip(bench.input_ids, ("(5, 7), uint8", "(6, 7), uint8", "(5, 7), uint16"), strict=True):
        assert f"{dataset_id}: slices of shape {found}" in message


def test_no_input_is_an_error(bench: Any) -> None:
    """An empty list of datasets is told as such."""
    assert "Image2Image needs at least one input dataset" in bench.failure(runner())


def test_spacing_is_inherited_while_the_shape_stays(bench: Any) -> None:
    """An output of another spatial shape has no spacing; a change of the channels does not matter."""
    stack = {"image": pixels(2, 6, 4), "axes": "ZYX", "spacing": (2.0, 0.5, 0.25), "spacing_unit": "nm"}
    [same] = bench.results(runner(), [stack])
    assert (tuple(same["spacing"]), same["spacing_unit"]) == ((2.0, 0.5, 0.25), "nm")
    [coloured] = bench.results(runner(lambda data: np.stack([data] * 3, axis=-1)), [stack])
    assert tuple(coloured["spacing"]) == (2.0, 0.5, 0.25)
    [smaller] = bench.results(runner(lambda data: data[:, ::2]), [stack])
    assert "spacing" not in smaller


def test_spacing_of_each_input_goes_to_its_own_output(bench: Any) -> None:
    """Regrouping keeps spacings apart."""
    inputs = [
        {"image": pixels(4, 4), "spacing": (1.0, 1.0)},
        {"image": pixels(4, 4)},
        {"image": pixels(4, 4), "spacing": (3.0, 2.0)},
    ]
    spacings = [tuple(result.get("spacing", ())) for result in bench.results(runner(), inputs)]
    assert spacings == [(1.0, 1.0), (), (3.0, 2.0)]


def test_same_dataset_twice_gives_two_results(bench: Any) -> None:
    """Inputs count by position, not by id."""
    outcome = bench.execute(runner(), [{"image": pixels(4, 4)}], times=2)
    assert len(set(outcome.output_dataset_ids)) == 2


@pytest.mark.parametrize("way", ["one by one", "at once and again", "parallel", "with keys"])
def test_own_preprocess_may_fetch_as_it_likes(bench: Any, way: str) -> None:
    """The default `postprocess` regroups by the run's inputs, however they were fetched."""

    class Runner(Image2ImageRunner):
        def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> np.ndarray:
            ids = input_data["input_dataset_ids"]
            if way == "one by one":
                datasets = [self.fetch_data([dataset_id])[0] for dataset_id in reversed(ids)][::-1]
            elif way == "at once and again":
                datasets = self.fetch_data(ids)
                self.fetch_data(ids[:1], "mask")
            elif way == "parallel":
                datasets = self.fetch_data(ids, parallel=True)
            else:
                datasets = self.fetch_data(ids, "image")
                assert [list(dataset) for dataset in datasets] == [["image"], ["image"]]
            return np.concatenate([np.atleast_3d(dataset["image"].T).T for dataset in datasets])

        def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
            return data

    stack, image = pixels(2, 6, 5), pixels(6, 5)
    results = bench.results(Runner, [{"image": stack, "axes": "ZYX"}, {"image": image}])
    np.testing.assert_array_equal(results[0]["image"], stack)
    np.testing.assert_array_equal(results[1]["image"], image)


def test_a_list_of_slices_is_as_good_as_an_array(bench: Any) -> None:
    stack = {"image": pixels(2, 4, 4), "axes": "ZYX"}
    [result] = bench.results(runner(list), [stack])
    np.testing.assert_array_equal(result["image"], stack["image"])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda data: data[:1], "Image2Image: `inference` must return one result for each of the 2 input slices"),
        (
            lambda data: None,
            "Image2Image: `inference` must return an array (N, Y, X) or (N, Y, X, 3 or 4), uint8, int16, uint16, "
            "int32, float16, float32 or float64, but returned None; is a `return` missing?",
        ),
        (lambda data: {"image": data}, "but returned dict; return the array alone"),
        (lambda data: (data, np.ones(3)), "but has (2, 4, 4), (3,); a tuple is taken as a list of slices: return the"),
        (
            lambda data: [data[0], data[1, 1:]],
            "but returned list: a list of arrays needs equal shapes, but has (3, 4), (4",
        ),
        (lambda data: data[0], "but returned uint8 (4, 4); the first axis counts the results: return out[np.newaxis]"),
        (lambda data: data[..., np.newaxis], "but returned uint8 (2, 4, 4, 1)"),
        (lambda data: data.astype(np.int64), "but returned int64 (2, 4, 4); convert it by .astype(np.int32)"),
        (
            lambda data: data.astype(np.int64) + (1 << 40),
            "but returned int64 (2, 4, 4); convert it by .astype(np.float32)",
        ),
        (lambda data: data * 1j, "but returned complex128 (2, 4, 4); take its magnitude by np.abs(out), or its real"),
    ],
)
def test_wrong_output_of_inference_is_told(bench: Any, output: Callable[[Any], Any], message: str) -> None:
    """The error says what `inference` has to return, and what it returned; nothing is stored."""
    assert message in bench.failure(runner(output), [{"image": pixels(4, 4)}, {"image": pixels(4, 4)}])
    assert len(list(bench.objects.list("datasets/"))) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite_are_told_where_the_input_has_none(bench: Any, value: float, dtype: str) -> None:
    """Large ones, whose sum overflows, are no such values."""
    image = np.full((4, 4), np.finfo(dtype).max, dtype)

    def spoil(data: np.ndarray) -> np.ndarray:
        data[0, 0, :3] = value
        return data

    bench.results(runner(), [{"image": image}])
    bench.results(runner(), [{"image": spoil(image[np.newaxis].copy())[0]}])
    assert bench.log_lines == []
    bench.results(runner(spoil), [{"image": image}])
    assert bench.log_lines == [("WARNING", "3 of the results' values are NaN or infinite")]


def test_changing_the_input_in_place_leaves_the_stored_dataset(bench: Any) -> None:
    """Arrays from `fetch_data` belong to the run, small and large ones."""

    def erase(data: np.ndarray) -> np.ndarray:
        data[:] = 0
        return data

    for size in (4, 2048):
        image = pixels(size, size) | 1
        bench.results(runner(erase), [{"image": image}])
        np.testing.assert_array_equal(bench.datasets.read(bench.input_ids[0])["image"], image)
