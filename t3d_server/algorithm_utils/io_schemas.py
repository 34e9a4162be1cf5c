"""Schemas of datasets: what runners fetch and post."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from t3d_server.algorithm_utils.annotations import members, takes_array, takes_arrays, takes_none
from t3d_server.algorithm_utils.arrays import FLOATS, INTEGERS, Array

IMAGE_DTYPES = ("uint8", "int16", "uint16", "int32", "float16", "float32", "float64")
"""dtypes that an image may have."""
NUMBERS = (*INTEGERS, *FLOATS)


Image = Annotated[
    np.ndarray,
    Array("(Y, X)", "(Y, X, 3 or 4)", "(3 or 4, Y, X)", "(Z, Y, X)", "(Z, Y, X, 3 or 4)", dtypes=IMAGE_DTYPES),
]
Mask = Annotated[np.ndarray, Array(dtypes=("bool", *INTEGERS), stored=INTEGERS)]
Points = Annotated[np.ndarray, Array("(N, ndim)", dtypes=NUMBERS, stored=["float64"])]
Points2D = Annotated[np.ndarray, Array("(N, 2)", dtypes=NUMBERS, stored=["float64"])]
Points3D = Annotated[np.ndarray, Array("(N, 3)", dtypes=NUMBERS, stored=["float64"])]
Matrix = Annotated[np.ndarray, Array("(3, 3)", dtypes=NUMBERS, stored=["float64"])]
Features = Annotated[
    np.ndarray, Array("(D,)", "(Z, D)", "(C, h, w)", "(Z, C, h, w)", dtypes=FLOATS, stored=["float32"])
]
Volume = Annotated[np.ndarray, Array("(Z, Y, X)", dtypes=IMAGE_DTYPES)]


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


def to_array(value: Any) -> Any:
    """Tensors, numbers and sequences of equal-shaped ones as an array; other values as they are.

    Raises:
        ValueError: the shapes of a sequence differ, or numpy cannot take a tensor.
    """
    value = from_tensor(value)
    if isinstance(value, (list, tuple)) and value:
        items = [to_array(item) for item in value]
        shapes = {np.shape(item) for item in items}
        if len(shapes) > 1:
            raise ValueError(f"a list of arrays needs equal shapes, but has {', '.join(map(str, sorted(shapes)))}")
        return np.stack(items)
    return np.asarray(value) if isinstance(value, (int, float, np.generic, list, tuple)) else value


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
        optional = [name for name, field in fields if field.is_required() and takes_none(field.annotation)]
        return dict.fromkeys(optional) | values if isinstance(values, dict) else values

    @field_validator("*", mode="before")
    @classmethod
    def _convert(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if value is None and not field.is_required():
            return field.get_default(call_default_factory=True)
        value = from_tensor(value)
        if takes_array(field.annotation):
            return to_array(value)
        if takes_arrays(field.annotation) and isinstance(value, (list, tuple, np.ndarray)):
            return [to_array(item) for item in value]
        if isinstance(value, (np.ndarray, np.generic)) and Any not in members(field.annotation):
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
        raise TypeError(f"a schema is a class that derives from DataSchema (or pydantic's BaseModel), not {schema!r}")
    if issubclass(schema, DataSchema):
        return schema
    return type(schema.__name__, (DataSchema, schema), {"__module__": schema.__module__, "__doc__": schema.__doc__})


class GenericSchema(DataSchema):
    """Any array."""

    data: np.ndarray = Field(description="Any numbers.")


class ImageSchema(DataSchema):
    """An image or a stack of images."""

    image: Image = Field(
        description="An image, or a stack of images along Z, with or without colour; `axes` tells which."
    )
    mask: Mask | None = Field(default=None, description="Spatial shape of the image; 0 is background.")
    points: Points | None = Field(default=None, description="Points in axis order; whole numbers are pixel centres.")
    spacing: tuple[float, ...] | None = Field(
        default=None, description="Distance of neighbouring samples for each spatial axis, in axis order."
    )
    spacing_unit: str | None = Field(default=None, description='Unit of `spacing`, "um" where it is left out.')
    axes: str | None = Field(
        default=None,
        description='Axes of `image`: "YX", "YXC", "CYX", "ZYX" or "ZYXC". Where it is left out, a last axis of 3 or 4 '
        "is C, else a first one of 3 is; other third axes are Z.",
    )


class MaskSchema(DataSchema):
    """A mask."""

    mask: Mask = Field(description="Spatial shape of the image; 0 is background.")
    spacing: tuple[float, ...] | None = Field(
        default=None, description="Distance of neighbouring samples for each axis, in axis order."
    )
    spacing_unit: str | None = Field(default=None, description='Unit of `spacing`, "um" where it is left out.')


class SegmentationSchema(MaskSchema):
    """A segmentation: a mask whose values number the objects."""


class EmbeddingSchema(DataSchema):
    """A deep-learning embedding of an image."""

    features: Features = Field(description="A vector or a map with a spatial layout; a stack has a leading axis Z.")
    input_size: tuple[int, ...] = Field(description="(height, width) in pixels of what the network saw.")
    original_size: tuple[int, ...] = Field(description="(height, width) in pixels of the image.")


class AlignmentSchema(DataSchema):
    """How one image lies on the one before it."""

    transform_matrix: Matrix = Field(
        description="Homogeneous; acts on (x, y) pixel-centre coordinates and maps this image onto the one before."
    )
    translation_matrix: Matrix | None = Field(default=None, description="The translation in `transform_matrix`.")
    points1: Points2D | None = Field(default=None, description="(x, y) of matched points in the image before.")
    points2: Points2D | None = Field(default=None, description="(x, y) of the same points in this image.")
    confidence: float | None = Field(default=None, description="How sure the algorithm is, 0 to 1.")


class VolumeSchema(DataSchema):
    """A volume."""

    volume: Volume = Field(description="Intensities.")
    mask: Mask | None = Field(default=None, description="Shape of the volume; 0 is background.")
    points: Points3D | None = Field(default=None, description="Points in axis order; whole numbers are voxel centres.")
    spacing: tuple[float, float, float] | None = Field(
        default=None, description="Distance of neighbouring samples along Z, Y and X."
    )
    spacing_unit: str | None = Field(default=None, description='Unit of `spacing`, "um" where it is left out.')
