"""`BaseRunner`: what every algorithm's `Runner` inherits, and what it asks of the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from t3d_server.algorithm_utils.assets import open_asset
from t3d_server.algorithm_utils.io_schemas import DataSchema, as_data_schema


class RunnerContext(Protocol):
    """What a runner may touch outside itself; the server gives one for loading and one for each run."""

    run_id: str

    def asset(self, path: str) -> Path:
        """Local file that holds the asset at `path` in the algorithm folder."""

    def fetch(self, dataset_ids: list[str], schema: type[DataSchema], *, parallel: bool) -> list[dict[str, Any]]:
        """Read datasets and validate them."""

    def post(self, results: list[dict[str, Any]], schema: type[DataSchema]) -> list[str]:
        """Validate results and store them, all or none; returns their ids."""

    def log(self, message: str, level: str) -> None:
        """Add a line to the log."""

    def progress(self, fraction: float) -> None:
        """Tell how far the run is."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Marks one of the phases of a run."""


class _Given:
    """An attribute that the server gives; one that an author sets or defines by the same name goes before it."""

    # No __set__: that is what lets an instance have its own.
    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_t3d_{name}"

    def __get__(self, runner: object, owner: type) -> str:
        value: str = getattr(owner if runner is None else runner, self._name)
        return value


class BaseRunner(ABC):
    """Base class of every algorithm's `Runner`.

    A replica makes one runner and calls `load_assets` once. Each run then works on a shallow copy of it: what
    `load_assets` set is shared, what a run sets on `self` is its own.

    Attributes:
        algorithm_type: name of the algorithm type; "Generic" here.
        device: "cpu" or "cuda", where the runner is to put its model and tensors.
        run_id: id of the current run, "" while assets are loaded.
    """

    algorithm_type: ClassVar[str] = "Generic"

    device = _Given()
    run_id = _Given()
    _t3d_context: RunnerContext | None = None
    _t3d_device = "cpu"
    _t3d_run_id = ""

    def _attach(self, context: RunnerContext) -> None:
        """Let the runner work in `context` from now on."""
        self._t3d_context = context
        self._t3d_run_id = context.run_id

    def load_assets(self) -> None:  # noqa: B027  # optional to implement, by the module spec
        """Load models and other files once for all runs; set them as attributes of `self`."""

    @abstractmethod
    def preprocess(self, input_data: dict[str, Any], args: dict[str, Any]) -> Any:
        """Fetch the input and prepare it.

        Args:
            input_data: `{"input_dataset_ids": [id, ...]}`.
            args: the run's args, defaults filled in.

        Returns:
            Whatever `inference` takes.
        """

    @abstractmethod
    def inference(self, data: Any, args: dict[str, Any]) -> Any:
        """Run the algorithm.

        Args:
            data: what `preprocess` returned.
            args: the run's args, defaults filled in.

        Returns:
            Whatever `postprocess` takes.
        """

    @abstractmethod
    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> list[str]:
        """Prepare the result and post it.

        Args:
            inference_output: what `inference` returned.
            args: the run's args, defaults filled in.

        Returns:
            The ids that `post_data` gave; ids of inputs may be among them. Text that is no id is no dataset: it comes
            with a warning in the log, and clients of the v0 API get it in its place.
        """

    def run(self, input_data: dict[str, Any], args: dict[str, Any]) -> list[str]:
        """Call `preprocess`, `inference` and `postprocess` in this order, each with the result of the one before.

        Args:
            input_data: `{"input_dataset_ids": [id, ...]}`.
            args: the run's args, defaults filled in.

        Returns:
            What `postprocess` returned.
        """
        context = self._require_context()
        with context.phase("preprocess"):
            data = self.preprocess(input_data, args)
        with context.phase("inference"):
            output = self.inference(data, args)
        with context.phase("postprocess"):
            return self.postprocess(output, args)

    def fetch_data(
        self, dataset_ids: list[str], schema: type[BaseModel], *keys: str, parallel: bool = False
    ) -> list[dict[str, Any]]:
        """Read datasets.

        Args:
            dataset_ids: ids of datasets.
            schema: pydantic model that each dataset must fit, `DataSchema` or any other.
            keys: if any are given, the dictionaries hold these keys only.
            parallel: read the datasets at the same time.

        Returns:
            One dictionary per id, in order. Arrays may be changed in place; the stored dataset does not change.
            A key that the dataset lacks is None.

        Raises:
            DatasetNotFoundError: an id is unknown.
            InvalidDatasetError: a dataset does not fit the schema.
        """
        datasets = self._require_context().fetch(dataset_ids, as_data_schema(schema), parallel=parallel)
        return [{key: dataset.get(key) for key in keys} for dataset in datasets] if keys else datasets

    def post_data(self, output: list[dict[str, Any]], schema: type[BaseModel]) -> list[str]:
        """Store results as datasets.

        Args:
            output: one dictionary for each dataset. Torch tensors are stored as arrays.
            schema: pydantic model that each dictionary must fit, `DataSchema` or any other.

        Returns:
            The ids of the datasets, in order.

        Raises:
            InvalidDatasetError: a result does not fit the schema; none of them is stored.
        """
        return self._require_context().post(output, as_data_schema(schema))

    def fetch_asset(self, path: str) -> Any:
        """Open a file of the algorithm folder.

        Args:
            path: path in the folder, such as "files/model.pt".

        Returns:
            Its content as a read-only, bytes-like file object: it goes into `torch.load`, `numpy.load`,
            `io.BytesIO` or `pickle.loads` as it is, can be sliced and compared with bytes; `bytes(asset)` copies
            it where plain bytes are asked for, as by `json.loads`. An empty file gives `b""`.

        Raises:
            FileNotFoundError: the folder holds no such file.
        """
        return open_asset(self._require_context().asset(path))

    def log_message(self, message: str, logging_level: str = "INFO") -> None:
        """Add a line to the run's log.

        Args:
            message: the text.
            logging_level: "DEBUG", "INFO", "WARNING" or "ERROR".
        """
        self._require_context().log(message, logging_level)

    def set_progress(self, progress: float) -> None:
        """Tell how far the run is.

        Args:
            progress: 0 to 1; values outside are clamped.
        """
        self._require_context().progress(progress)

    def _require_context(self) -> RunnerContext:
        if self._t3d_context is None:
            raise RuntimeError(
                f"{type(self).__module__}.{type(self).__qualname__} is not running: the server creates runners. "
                "To try one, use `t3d debug PATH INPUT`."
            )
        return self._t3d_context


def create_runner(runner_class: type[BaseRunner], context: RunnerContext, device: str) -> BaseRunner:
    """Make a runner and load its assets, as a replica does.

    Args:
        runner_class: the author's `Runner`.
        context: what the runner may touch meanwhile.
        device: "cpu" or "cuda".
    """
    runner = runner_class.__new__(runner_class)
    # Before __init__, so that an author's own __init__ can log and fetch assets too.
    runner._t3d_device = device
    runner._attach(context)
    runner.__init__()  # type: ignore[misc]  # called here for the order that the line above explains
    runner.load_assets()
    return runner
