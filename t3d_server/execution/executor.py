"""Executes one run of a loaded algorithm; knows neither Ray nor HTTP."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from t3d_server.algorithm_utils.BaseRunner import BaseRunner, create_runner
from t3d_server.clock import SYSTEM_CLOCK, Clock
from t3d_server.errors import LoadFailedError, RunCancelled, T3dError
from t3d_server.execution.context import Datasets, Listener, LoadContext, RunContext
from t3d_server.execution.output_capture import captured
from t3d_server.ids import canonical, is_id
from t3d_server.models import Device, LogLine, Manifest, Run, RunFailure, RunStatus
from t3d_server.packages.loader import (
    LoadedModule,
    Package,
    format_author_traceback,
    import_runner,
    resolve_type,
    tag_warnings,
)
from t3d_server.run_log import log_line, shortened, storable
from t3d_server.runs.interface import Outcome

MAX_TEXT_LENGTH = 20_000
"""Most characters of text that `postprocess` may return: they are kept in the record of the run."""


@dataclass(frozen=True)
class LoadedAlgorithm:
    """An algorithm whose runner is ready to work.

    Attributes:
        manifest: its manifest, completed by what the class tells.
        package: its files.
        module: the imported code.
        runner: the runner, its assets loaded.
    """

    manifest: Manifest
    package: Package
    module: LoadedModule
    runner: BaseRunner


def load(package: Package, manifest: Manifest, device: Device, log: Callable[[LogLine], None]) -> LoadedAlgorithm:
    """Import a package and load its assets.

    Args:
        package: its files.
        manifest: its manifest.
        device: where it is to work.
        log: hears what `load_assets` logs.

    Raises:
        ImportFailedError: the code cannot be imported.
        InvalidPackageError: there is no `Runner`, or it is of another type than the manifest says.
        LoadFailedError: `load_assets` raised.
    """
    module = import_runner(package)
    manifest = resolve_type(manifest, module.runner_class)
    context = LoadContext(package, log)
    for warning in [*module.warnings, *tag_warnings(manifest, module.runner_class)]:
        context.log(warning, "WARNING")
    try:
        with module.active():
            runner = create_runner(module.runner_class, context, "cuda" if device == "gpu" else "cpu")
    except (Exception, SystemExit) as error:
        raise LoadFailedError(
            storable(f"{manifest.name} {manifest.version} could not load on {device}: {_describe(error)}"),
            traceback=storable(format_author_traceback(error, package.folder)),
        ) from error
    return LoadedAlgorithm(manifest, package, module, runner)


def execute(
    algorithm: LoadedAlgorithm, run: Run, datasets: Datasets, listener: Listener, clock: Clock = SYSTEM_CLOCK
) -> Outcome:
    """Execute one run.

    The author's code runs in the calling thread, on a shallow copy of the runner. Whatever it does, this returns an
    outcome; unless that is COMPLETED, nothing that the run posted is left.

    Args:
        algorithm: the loaded algorithm.
        run: what to do; its args are complete.
        datasets: where to read and post.
        listener: gets progress and log lines, and knows whether the run is cancelled.
        clock: the clock.

    Returns:
        How it ended.
    """
    context = RunContext(run.id, algorithm.package, datasets, listener, clock)
    try:
        with algorithm.module.active(), captured(listener.log, clock):
            runner = copy.copy(algorithm.runner)
            runner._attach(context)
            result = runner.run({"input_dataset_ids": list(run.input_dataset_ids)}, copy.deepcopy(run.args))
        if context.stopped:  # the author's code caught what was to stop it
            raise RunCancelled
        returned = _checked(result, {*context.posted, *run.input_dataset_ids})
        output_ids = [item for item in returned if is_id(item)]
        if texts := [item for item in returned if not is_id(item)]:
            message = f"postprocess returned text in place of ids of datasets: {', '.join(map(repr, texts))}"
            listener.log(log_line(message, "WARNING", clock.now()))
        context.close()
        context.keep(output_ids)
    except BaseException as error:  # noqa: BLE001  # sys.exit and the like must not take the replica with them
        context.close()
        return _failure(error, algorithm, context)
    return Outcome(
        RunStatus.COMPLETED,
        tuple(output_ids),
        returned=tuple(returned) if texts else (),
        phase_times_s=context.phase_times_s,
    )


def _failure(error: BaseException, algorithm: LoadedAlgorithm, context: RunContext) -> Outcome:
    """The outcome of a run that raised, after what it posted is removed."""
    context.keep([])
    if context.stopped or isinstance(error, RunCancelled):
        failure = RunFailure(code="cancelled", type="RunCancelled", message="the run was cancelled")
        return Outcome(RunStatus.CANCELLED, error=failure, phase_times_s=context.phase_times_s)
    failure = RunFailure(
        code=error.code if isinstance(error, T3dError) else "algorithm_error",
        type=type(error).__name__,
        message=storable(shortened(str(error))),
        traceback=storable(shortened(format_author_traceback(error, algorithm.package.folder))),
    )
    return Outcome(RunStatus.FAILED, error=failure, phase_times_s=context.phase_times_s)


def _checked(result: Any, known: Collection[str]) -> list[str]:
    """What `postprocess` returned.

    Args:
        result: ids of datasets, and text that is no id.
        known: ids that may be among it.

    Raises:
        TypeError: it is no list of text.
        ValueError: another id is among it, or too much text.
    """
    if not isinstance(result, (list, tuple)) or not all(isinstance(item, str) for item in result):
        found = "None; is a `return` missing?" if result is None else _shorten(result)
        raise TypeError(f"postprocess must return the list of ids that post_data gave, but returned {found}")
    items = [canonical(storable(item)) for item in result]
    unknown = [item for item in items if is_id(item) and item not in known]
    if unknown:
        raise ValueError(
            "postprocess returned ids that this run did not post, and that are none of its inputs: "
            f"{', '.join(unknown)}; return those that post_data gave"
        )
    length = sum(len(item) + 1 for item in items if not is_id(item))
    if length > MAX_TEXT_LENGTH:
        raise ValueError(
            f"postprocess returned text of {length} characters, at most {MAX_TEXT_LENGTH} are kept; "
            "post it by post_data, in a dataset"
        )
    return items


def _shorten(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 200 else text[:200] + "…"


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
