"""Inputs of commands: files and folders of the user, and ids of datasets."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from t3d_server.datasets import formats
from t3d_server.errors import InvalidRequestError, Problem, T3dError, UnsupportedMediaTypeError
from t3d_server.ids import canonical, is_id


def check_inputs(inputs: Sequence[str], *, ids: bool) -> None:
    """Check the inputs of a command before they are read.

    Args:
        inputs: paths of files or of folders of slices, or ids of datasets.
        ids: whether ids are allowed.

    Raises:
        InvalidRequestError: with every input that is none of them, or a file of a format that is not read.
    """
    faults = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            continue
        if path.exists():
            try:
                formats.by_suffix(path)
            except UnsupportedMediaTypeError as error:
                faults.append(error.message)
        elif not ids or "/" in item or path.suffix:
            faults.append(f"{item}: no such file")
        elif not is_id(canonical(item)):
            faults.append(f"{item}: neither a file nor a dataset id")
    if faults:
        raise InvalidRequestError("; ".join(faults))


@contextmanager
def naming(files: Mapping[str, str]) -> Iterator[None]:
    """Replace ids in errors by the files, which the user knows.

    Args:
        files: the file that each dataset was made of, by id.
    """
    try:
        yield
    except T3dError as error:

        def named(text: str) -> str:
            for dataset_id, file in files.items():
                text = text.replace(dataset_id, file)
            return text

        renamed = copy.copy(error)  # with all else that its class has, such as the run of an AlgorithmError
        renamed.message = named(error.message)
        renamed.problems = tuple(Problem(named(problem.key), named(problem.message)) for problem in error.problems)
        renamed.traceback = named(error.traceback) if error.traceback else None
        raise renamed from error
