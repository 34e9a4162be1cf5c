"""Checks of a submission that need no coordinator: its key, and whether its inputs are there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from t3d_server.api.workers import Workers
from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import DatasetNotFoundError, ExpiredError, InvalidRequestError, NotFoundError, Problem

_KEY = re.compile(r"[ -~]{1,255}")


def check_key(idempotency_key: str | None) -> None:
    """Check an Idempotency-Key.

    Raises:
        InvalidRequestError: the text cannot be one.
    """
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise InvalidRequestError("The Idempotency-Key has to have 1 to 255 characters of printable ASCII.")


async def require_inputs(datasets: DatasetStore, workers: Workers, dataset_ids: Sequence[str]) -> None:
    """Check that all these datasets are there.

    Args:
        datasets: the datasets.
        workers: threads to ask the store in.
        dataset_ids: the inputs of a run.

    Raises:
        DatasetNotFoundError, ExpiredError: naming every one that is not.
    """

    async def fault_of(dataset_id: str) -> NotFoundError | None:
        try:
            await workers.run(datasets.require, dataset_id)
        except NotFoundError as fault:
            return fault
        return None

    unique = list(dict.fromkeys(dataset_ids))
    faults = dict(zip(unique, await asyncio.gather(*map(fault_of, unique)), strict=True))
    problems = [
        Problem(f"input_dataset_ids[{index}]", f"{fault.message:.300}")
        for index, dataset_id in enumerate(dataset_ids)
        if (fault := faults[dataset_id]) is not None
    ]
    if problems:
        kinds = {type(fault) for fault in faults.values() if fault is not None}
        kind = ExpiredError if kinds == {ExpiredError} else DatasetNotFoundError
        raise kind("Input datasets are missing; upload them first.", problems=problems)
