"""Datasets: dictionaries of arrays, stored as HDF5."""
