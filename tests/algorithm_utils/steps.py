"""Small runners for the tests of runs, and what they leave in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from t3d_server.algorithm_utils import BaseRunner, GenericSchema


class Steps(BaseRunner):
    """A runner of three steps that do nothing; tests replace the one they are about."""

    def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> Any:
        return input_data["input_dataset_ids"]

    def inference(self, data: Any, args: dict[str, Any]) -> Any:
        return data

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        return self.post_data([{"data": np.ones(3)}], GenericSchema)


def with_inference(inference: Callable[[Any], Any]) -> type[Steps]:
    """A runner whose `inference` is this function of the runner."""
    return type("Runner", (Steps,), {"inference": lambda self, data, args: inference(self)})


def stored_datasets(bench: Any) -> int:
    return len(list(bench.objects.list("datasets/")))
