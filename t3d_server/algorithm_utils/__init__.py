"""All that an author of algorithms imports; it needs numpy and pydantic alone."""

from t3d_server.algorithm_utils.arrays import Array
from t3d_server.algorithm_utils.BaseRunner import BaseRunner
from t3d_server.algorithm_utils.Image2AlignmentRunner import Image2AlignmentRunner
from t3d_server.algorithm_utils.Image2EmbeddingRunner import Image2EmbeddingRunner
from t3d_server.algorithm_utils.Image2ImageRunner import Image2ImageRunner
from t3d_server.algorithm_utils.Image2SegmentationRunner import Image2SegmentationRunner
from t3d_server.algorithm_utils.ImageRunner import ImageRunner
from t3d_server.algorithm_utils.io_schemas import (
    AlignmentSchema,
    DataSchema,
    EmbeddingSchema,
    GenericSchema,
    ImageSchema,
    MaskSchema,
    SegmentationSchema,
    VolumeSchema,
)
from t3d_server.algorithm_utils.TypedRunner import TypedRunner

__all__ = [
    "AlignmentSchema",
    "Array",
    "BaseRunner",
    "DataSchema",
    "EmbeddingSchema",
    "GenericSchema",
    "Image2AlignmentRunner",
    "Image2EmbeddingRunner",
    "Image2ImageRunner",
    "Image2SegmentationRunner",
    "ImageRunner",
    "ImageSchema",
    "MaskSchema",
    "SegmentationSchema",
    "TypedRunner",
    "VolumeSchema",
]
