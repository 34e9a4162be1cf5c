"""The HDF5 format, in which datasets are stored: a file is taken as it is once it has been checked."""

from __future__ import annotations

from t3d_server.datasets import hdf5
from t3d_server.datasets.formats.base import Format

FORMAT = Format(
    "application/x-hdf5",
    (".h5", ".hdf5"),
    states_axes=hdf5.states_axes,
    aliases=("application/octet-stream",),
    holds_dataset=True,
)
