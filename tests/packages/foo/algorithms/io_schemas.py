import numpy as np

from t3d_server.algorithm_utils.io_schemas import DataSchema


class MyDataSchema(DataSchema):
    data: np.ndarray


class MyOutputSchema(DataSchema):
    output: np.ndarray
