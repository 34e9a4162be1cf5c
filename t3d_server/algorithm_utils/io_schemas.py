"""Schemas of datasets: what runners fetch and post."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from t3d_server.algorithm_utils.axes import resolve_axes

IMAGE_DTYPES = ("uint8", "int16", "uint16", "int32", "float16", "float32", "float64")
"""dtypes that an image may have."""


def _check_image(image: np.ndarray) -> np.ndarray:
    if image.dtype.name not in IMAGE_DTYPES:
        raise ValueError(f"dtype {image.dtype} is not an image dtype; allowed are {', '.join(IMAGE_DTYPES)}")
    resolve_axes(image.shape)  # an error where no axes fit
    return image


def _check_volume(volume: np.ndarray) -> np.ndarray:
    if volume.dtype.name not in IMAGE_DTYPES:
        raise ValueError(f"dtype {volume.dtype} is not an image dtype; allowed are {', '.join(IMAGE_DTYPES)}")
    if volume.ndim != 3:
        raise ValueError(f"shape {volume.shape} is no volume: (Z, Y, X) is allowed")
    return volume


def _check_mask(mask: np.ndarray) -> np.ndarray:
    if mask.dtype == bool:
        return mask.view(np.uint8) if mask.flags.c_contiguous else mask.astype(np.uint8)
    if not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f"dtype {mask.dtype} is no mask: integers with 0 as background, or bool, are allowed")
    return mask


def _check_points(points: np.ndarray) -> np.ndarray:
    if points.ndim != 2:
        raise ValueError(f"shape {points.shape} are no points: (N, ndim) is allowed")
    return points.astype(np.float64, copy=False)


def _check_features(features: np.ndarray) -> np.ndarray:
    if not np.issubdtype(features.dtype, np.floating):
        raise ValueError(f"dtype {features.dtype} are no features: floats are allowed")
    return features.astype(np.float32, copy=False)


def _check_matrix(matrix: np.ndarray) -> np.ndarray:
    if matrix.shape != (3, 3):
        raise ValueError(f"shape {matrix.shape} is no homogeneous 2-D matrix: (3, 3) is allowed")
    return matrix.astype(np.float64, copy=False)


Image = Annotated[np.ndarray, AfterValidator(_check_image)]
Mask = Annotated[np.ndarray, AfterValidator(_check_mask)]
Points = Annotated[np.ndarray, AfterValidator(_check_points)]
Matrix = Annotated[np.ndarray, AfterValidator(_check_matrix)]
Features = Annotated[np.ndarray, AfterValidator(_check_features)]
Volume = Annotated[np.ndarray, AfterValidator(_check_volume)]


def from_tensor(value: Any) -> Any:
    """A torch tensor, on any device, as an array; any other value as it is.

    Raises:
        ValueError: numpy has no such dtype or layout.
    """
    if not (hasattr(value, "detach") and hasattr(value, "cpu")):
        return value
    try:
        return value.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"a {value.dtype} tensor that numpy cannot take ({error}); convert it first") from error


def _to_array(value: Any) -> Any:
    """Tensors, numbers and sequences of equal-shaped ones as an array; other values as they are."""
    value = from_tensor(value)
    if isinstance(value, (list, tuple)) and value:
        items = [_to_array(item) for item in value]
        shapes = {np.shape(item) for item in items}
        if len(shapes) > 1:
            raise ValueError(f"a list of arrays needs equal shapes, but has {', '.join(map(str, sorted(shapes)))}")
        return np.stack(items)
    return np.asarray(value) if isinstance(value, (int, float, np.generic, list, tuple)) else value


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union, or the annotation itself; without the metadata of `Annotated`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _members(parts[0])
    elif origin is typing.Union or origin is types.UnionType:
        for part in parts:
            yield from _members(part)
    else:
        yield annotation


def _takes_array(annotation: Any) -> bool:
    return any(np.ndarray in (member, typing.get_origin(member)) for member in _members(annotation))


def _takes_none(annotation: Any) -> bool:
    return any(member in (None, type(None), Any) for member in _members(annotation))


def _takes_arrays(annotation: Any) -> bool:
    """Whether it is a list or tuple of arrays."""
    return any(
        typing.get_origin(member) in (list, tuple) and any(_takes_array(item) for item in typing.get_args(member))
        for member in _members(annotation)
    )


class DataSchema(BaseModel):
    """Base of all schemas of datasets.

    Fields annotated `np.ndarray` take arrays, torch tensors, numbers and lists of equal-shaped ones; what is stored as
    an array comes back as the list, tuple, number or list of arrays that the annotation says. None stands for an
    absent key. Keys that the schema does not name survive.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        # None is not stored: where a field needs a value and None is one, an absent key stands for it.
        fields = cls.model_fields.items()
        optional = [name for name, field in fields if field.is_required() and _takes_none(field.annotation)]
        return dict.fromkeys(optional) | values if isinstance(values, dict) else values

    @field_validator("*", mode="before")
    @classmethod
    def _convert(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if value is None and not field.is_required():
            return field.get_default(call_default_factory=True)
        value = from_tensor(value)
        if _takes_array(field.annotation):
            return _to_array(value)
        if _takes_arrays(field.annotation) and isinstance(value, (list, tuple, np.ndarray)):
            return [_to_array(item) for item in value]
        if isinstance(value, (np.ndarray, np.generic)) and Any not in _members(field.annotation):
            return value.tolist()
        return value


@cache
def as_data_schema(schema: type[BaseModel]) -> type[DataSchema]:
    """Any pydantic model as a schema of datasets: what it takes and gives is converted as `DataSchema` does it.

    Args:
        schema: a model; its own configuration and validators hold.

    Raises:
        TypeError: it is no pydantic model.
    """
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise TypeError(f"a schema is a pydantic model, a class, not {schema!r}")
    if issubclass(schema, DataSchema):
        return schema
    return type(schema.__name__, (DataSchema, schema), {"__module__": schema.__module__, "__doc__": schema.__doc__})


class GenericSchema(DataSchema):
    """Any array.

    Attributes:
        data: any shape and numeric dtype.
    """

    data: np.ndarray


class ImageSchema(DataSchema):
    """An image or a stack of images.

    Attributes:
        image: (Y, X), (Y, X, C), (C, Y, X), (Z, Y, X) or (Z, Y, X, C), as `axes` tells; C is 3 or 4.
        mask: integers, spatial shape of the image; 0 is background.
        points: float64 (N, ndim), in axis order; integers are pixel centres.
        spacing: distance of neighbouring samples for each spatial axis, in axis order.
        spacing_unit: unit of `spacing`, "um" where it is left out.
        axes: "YX", "YXC", "CYX", "ZYX" or "ZYXC".
    """

    image: Image
    mask: Mask | None = None
    points: Points | None = None
    spacing: tuple[float, ...] | None = None
    spacing_unit: str | None = None
    axes: str | None = None


class MaskSchema(DataSchema):
    """A mask.

    Attributes:
        mask: integers or bool (stored as uint8 0 and 1), spatial shape of the image; 0 is background.
    """

    mask: Mask


class SegmentationSchema(MaskSchema):
    """A segmentation: a mask whose values number the objects."""


class EmbeddingSchema(DataSchema):
    """A deep-learning embedding of an image.

    Attributes:
        features: float32 (D,) or (C, h, w); a stack of Z images has a leading axis Z.
        input_size: (height, width) in pixels of what the network saw.
        original_size: (height, width) in pixels of the image.
    """

    features: Features
    input_size: tuple[int, ...]
    original_size: tuple[int, ...]


class AlignmentSchema(DataSchema):
    """How one image lies on the one before it.

    Attributes:
        transform_matrix: float64 (3, 3), homogeneous, acts on (x, y) pixel-centre coordinates and maps this image
            onto the one before.
        translation_matrix: float64 (3, 3), the translation in it.
        points1: float64 (N, 2), (x, y) of matched points in the image before.
        points2: float64 (N, 2), (x, y) of the same points in this image.
        confidence: how sure the algorithm is, 0 to 1.
    """

    transform_matrix: Matrix
    translation_matrix: Matrix | None = None
    points1: Points | None = None
    points2: Points | None = None
    confidence: float | None = None


class VolumeSchema(DataSchema):
    """A volume.

    Attributes:
        volume: (Z, Y, X), an image dtype.
        mask: integers, shape of the volume; 0 is background.
        points: float64 (N, 3), in axis order.
        spacing: distance of neighbouring samples along Z, Y and X.
        spacing_unit: unit of `spacing`, "um" where it is left out.
    """

    volume: Volume
    mask: Mask | None = None
    points: Points | None = None
    spacing: tuple[float, float, float] | None = None
    spacing_unit: str | None = None
