"""`TypedRunner`: base of the algorithm types, which fix the schemas of input and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from t3d_server.algorithm_utils.BaseRunner import BaseRunner


class TypedRunner(BaseRunner):
    """Base of runners whose type fixes what goes in and comes out.

    A new algorithm type is a subclass that sets at least `algorithm_type` and both schemas (`docs/types.md`).

    Attributes:
        algorithm_type: the name of the type, as manifests give it.
        algorithm_tags: the tags that its algorithms may have, each with a line that explains it.
        input_schema: what each input dataset must fit.
        output_schema: what each result must fit.
        input_count: the fewest and the most datasets that a run takes; None stands for any number.
        input_rule: what holds for the inputs of a run together, told to client developers.
        output_count: how many datasets a run makes and in which order, told to client developers.
    """

    algorithm_tags: ClassVar[Mapping[str, str]] = {}
    input_schema: ClassVar[type[BaseModel]]
    output_schema: ClassVar[type[BaseModel]]
    input_count: ClassVar[tuple[int, int | None]] = (1, None)
    input_rule: ClassVar[str] = ""
    output_count: ClassVar[str] = ""

    # The module spec gives typed runners these signatures, without a schema.
    def fetch_data(self, dataset_ids: list[str], *keys: str, parallel: bool = False) -> list[dict[str, Any]]:  # type: ignore[override]
        """Read datasets of the type's input schema.

        Args:
            dataset_ids: ids of datasets.
            keys: if any are given, the dictionaries hold these keys only.
            parallel: read the datasets at the same time.

        Returns:
            One dictionary per id, in order.

        Raises:
            DatasetNotFoundError: an id is unknown.
            InvalidDatasetError: a dataset does not fit the schema.
        """
        return super().fetch_data(dataset_ids, self.input_schema, *keys, parallel=parallel)

    def post_data(self, output: list[dict[str, Any]]) -> list[str]:  # type: ignore[override]
        """Store results of the type's output schema.

        Args:
            output: one dictionary for each dataset.

        Returns:
            The ids of the datasets, in order.

        Raises:
            InvalidDatasetError: a result does not fit the schema; none of them is stored.
        """
        return super().post_data(output, self.output_schema)
