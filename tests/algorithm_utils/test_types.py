"""What the default `postprocess` of the segmentation, embedding and alignment runners takes and stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from t3d_server.algorithm_utils import (
    BaseRunner,
    Image2AlignmentRunner,
    Image2EmbeddingRunner,
    Image2ImageRunner,
    Image2SegmentationRunner,
)

IMAGE = {"image": np.zeros((6, 8), np.uint8), "spacing": (0.5, 0.25), "spacing_unit": "nm"}
STACK = {"image": np.zeros((3, 6, 8), np.uint8), "axes": "ZYX", "spacing": (2.0, 0.5, 0.25)}
SHIFT = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -2.0], [0.0, 0.0, 1.0]])
ROTATION = np.array([[0.0, -1.0, 4.0], [1.0, 0.0, 3.0], [0.0, 0.0, 1.0]])


def runner(base: Any, inference: Callable[[Any], Any], **attributes: Any) -> type[BaseRunner]:
    """A runner of type `base` with this `inference`."""
    return type("Runner", (base,), {"inference": lambda self, data, args: inference(data), **attributes})


@pytest.mark.parametrize("base", [Image2ImageRunner, Image2SegmentationRunner, Image2EmbeddingRunner])
def test_tensors_are_taken(bench: Any, base: type[BaseRunner]) -> None:
    """A torch tensor, with a gradient where its dtype allows one, counts as an array."""

    def inference(data: np.ndarray) -> torch.Tensor:
        if base is Image2SegmentationRunner:
            return torch.ones(data.shape, dtype=torch.bool)
        return torch.ones(data.shape if base is Image2ImageRunner else (len(data), 4), requires_grad=True)

    assert len(bench.results(runner(base, inference), [IMAGE, IMAGE])) == 2


@pytest.mark.parametrize(("dtype", "stored"), [("bool", "uint8"), ("uint16", "uint16"), ("int64", "int64")])
def test_masks_are_integers(bench: Any, dtype: str, stored: str) -> None:
    """One mask for each input, with its spacing; bool becomes uint8 0 and 1."""
    mask = np.zeros((4, 6, 8), dtype)
    mask[:, 1:3, 2:5] = 1
    single, stack = bench.results(runner(Image2SegmentationRunner, lambda data: mask), [IMAGE, STACK])
    assert single["mask"].dtype == stack["mask"].dtype == stored
    np.testing.assert_array_equal(single["mask"], mask[0])
    np.testing.assert_array_equal(stack["mask"], mask[1:])
    assert (tuple(single["spacing"]), single["spacing_unit"]) == ((0.5, 0.25), "nm")
    assert tuple(stack["spacing"]) == (2.0, 0.5, 0.25)


def test_mask_of_a_colour_image_is_spatial(bench: Any) -> None:
    """Colour has no place in a mask, and does not keep it from inheriting the spacing."""
    colour = {"image": np.zeros((6, 8, 3), np.uint8), "spacing": (0.5, 0.25)}
    [result] = bench.results(runner(Image2SegmentationRunner, lambda data: data[..., 0] > 0), [colour])
    assert result["mask"].shape == (6, 8)
    assert tuple(result["spacing"]) == (0.5, 0.25)


@pytest.mark.parametrize(("image", "shapes"), [(IMAGE, "(6, 8)|(6, 4)"), (STACK, "(3, 6, 8)|(3, 6, 4)")])
def test_a_mask_of_another_size_is_refused(bench: Any, image: dict[str, Any], shapes: str) -> None:
    expected, found = shapes.split("|")
    message = bench.failure(runner(Image2SegmentationRunner, lambda data: (data > 1)[..., ::2]), [image])
    assert f"the spatial shape of its image, {expected}, but `inference` returned one of shape {found}" in message


def test_float_mask_is_refused(bench: Any) -> None:
    """Probabilities are no labels."""
    message = bench.failure(runner(Image2SegmentationRunner, lambda data: data / 2), [IMAGE])
    assert "must return an array (N, Y, X) of integers or bool, but returned float64 (1, 6, 8); make a mask" in message


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_embeddings_are_regrouped(bench: Any, shape: tuple[int, ...], as_list: bool) -> None:
    """Vectors and maps, as an array or a list: a single image without, a stack with a leading axis."""
    features = np.random.default_rng(0).random((4, *shape))
    base = runner(Image2EmbeddingRunner, lambda data: list(features) if as_list else features, input_size=(224, 112))
    single, stack = bench.results(base, [IMAGE, STACK])
    assert single["features"].dtype == stack["features"].dtype == np.float32
    np.testing.assert_allclose(single["features"], features[0], rtol=1e-6)
    np.testing.assert_allclose(stack["features"], features[1:], rtol=1e-6)
    for result in (single, stack):
        assert tuple(result["input_size"]) == (224, 112)
        assert tuple(result["original_size"]) == (6, 8)


def test_input_size_defaults_to_that_of_the_image(bench: Any) -> None:
    """A network that takes any size saw the image's own."""
    [result] = bench.results(runner(Image2EmbeddingRunner, lambda data: [torch.ones(3)]), [IMAGE])
    assert tuple(result["input_size"]) == (6, 8)


def test_maps_of_single_images_may_differ_in_size(bench: Any) -> None:
    """A list may hold maps of different sizes, but not for the slices of one stack."""
    maps = [np.ones((2, 3, 4)), np.ones((2, 5, 6))]
    results = bench.results(runner(Image2EmbeddingRunner, lambda data: maps), [IMAGE, IMAGE])
    assert [result["features"].shape for result in results] == [(2, 3, 4), (2, 5, 6)]
    message = bench.failure(
        runner(Image2EmbeddingRunner, lambda data: maps), [{"image": np.zeros((2, 6, 8), np.uint8), "axes": "ZYX"}]
    )
    assert "features: a list of arrays needs equal shapes, but has (2, 3, 4), (2, 5, 6)" in message


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.ones((1, 2, 3)), "floats (N, D) or (N, C, h, w), or a list of N, but returned float64 (1, 2, 3)"),
        ([np.ones((2, 3))], "floats (D,) or (C, h, w) in its list, but returned float64 (2, 3)"),
        (["text"], "but returned str"),
        ([], "must return one result for each of the 1 input slices, but returned 0"),
        (np.ones((1, 3), int), "but returned int64 (1, 3); convert it by .astype(np.float32)"),
    ],
)
def test_wrong_embeddings_are_told(bench: Any, output: Any, message: str) -> None:
    """The error says what is allowed and what was returned."""
    assert message in bench.failure(runner(Image2EmbeddingRunner, lambda data: output), [IMAGE])


@pytest.mark.parametrize("form", ["array", "list", "tensors with gradient", "dictionaries"])
def test_alignment_gives_one_dataset_for_each_neighbouring_pair(bench: Any, form: str) -> None:
    """N images give N-1 matrices, and the translation in each."""
    matrices = [SHIFT, ROTATION]
    output = {
        "array": np.stack(matrices).astype(np.float32),
        "list": [matrix.tolist() for matrix in matrices],
        "tensors with gradient": [torch.tensor(matrix, requires_grad=True) for matrix in matrices],
        "dictionaries": [{"transform_matrix": matrix, "confidence": np.float32(0.5)} for matrix in matrices],
    }[form]
    for inputs in ([IMAGE] * 3, [STACK]):
        results = bench.results(runner(Image2AlignmentRunner, lambda data: output), inputs)
        for result, matrix in zip(results, matrices, strict=True):
            assert result["transform_matrix"].dtype == np.float64
            np.testing.assert_array_equal(result["transform_matrix"], matrix)
            np.testing.assert_array_equal(result["translation_matrix"][:2, 2], matrix[:2, 2])
            np.testing.assert_array_equal(result["translation_matrix"][:, :2], np.eye(3)[:, :2])
            assert ("confidence" in result) == (form == "dictionaries")


def test_alignment_keeps_points_and_an_own_translation(bench: Any) -> None:
    """What a dictionary gives beside the matrix is stored as it is."""
    points = np.array([[1, 2], [3, 4]])
    given = {"transform_matrix": ROTATION, "translation_matrix": SHIFT, "points1": points, "points2": points + 1}
    [result] = bench.results(runner(Image2AlignmentRunner, lambda data: [given]), [IMAGE, IMAGE])
    np.testing.assert_array_equal(result["translation_matrix"], SHIFT)
    np.testing.assert_array_equal(result["points2"] - result["points1"], np.ones((2, 2)))
    assert result["points1"].dtype == np.float64


@pytest.mark.parametrize(
    ("output", "inputs", "message"),
    [
        ([SHIFT], [IMAGE], "needs two images at least"),
        ([SHIFT] * 2, [IMAGE] * 2, "must return 1 matrices for 2 images, but returned 2"),
        (None, [IMAGE] * 2, "matrices as an array (N-1, 3, 3) or a list of N-1, but returned None; is a `return`"),
        ([np.eye(2)], [IMAGE] * 2, "must return matrices (3, 3), but returned float64 (2, 2)"),
        ([{"points1": np.ones((1, 2))}], [IMAGE] * 2, "transform_matrix: is missing"),
    ],
)
def test_wrong_alignments_are_told(bench: Any, output: Any, inputs: list[Any], message: str) -> None:
    """The error says what is allowed and what was returned."""
    assert message in bench.failure(runner(Image2AlignmentRunner, lambda data: output), inputs)
