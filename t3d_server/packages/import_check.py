"""Imports a package in a fresh process, as a replica would, and tells what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

from t3d_server.errors import ImportFailedError, InvalidPackageError, Problem, T3dError
from t3d_server.models import Manifest
from t3d_server.packages.algorithm_type import check_tags
from t3d_server.packages.fetch import Package
from t3d_server.packages.loader import import_runner, resolve_type

_ERRORS: dict[str, type[T3dError]] = {error.code: error for error in (ImportFailedError, InvalidPackageError)}
_SHOWN_OUTPUT = 4000


def check_import(
    package: Package, manifest: Manifest, timeout_s: float, *, tags: Mapping[str, Collection[str]]
) -> tuple[Manifest, list[str]]:
    """Import a package in a fresh process.

    Args:
        package: the package; its assets are not touched.
        manifest: its manifest.
        timeout_s: how long the import may take; the process and its children are killed then.
        tags: the tags of each algorithm type.

    Returns:
        The manifest completed by what the class tells, and the warnings of the import.

    Raises:
        ImportFailedError: the import raised, hung, or ended the process.
        InvalidPackageError: `Runner` cannot be used, or does not fit the manifest.
    """
    with tempfile.TemporaryDirectory() as temporary:
        given, result, output = (Path(temporary) / name for name in ("manifest.json", "result.json", "output.txt"))
        given.write_text(manifest.model_dump_json())
        command = [sys.executable, "-P", "-m", __name__, str(package.folder), str(given), str(result)]
        with output.open("wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ImportFailedError(
                f"Importing Runner.py did not end within {timeout_s:g} s. Move work that takes long to load_assets.",
                traceback=_tail(output),
            ) from None
        finally:
            _kill(process)
        if not result.exists():
            raise ImportFailedError(
                f"Importing Runner.py ended its process with code {process.returncode}.", traceback=_tail(output)
            )
        answer = json.loads(result.read_text())
    if "code" in answer:
        _raise(answer)
    resolved = Manifest.model_validate(answer["manifest"])
    warnings = list(answer["warnings"])
    own = resolved.algorithm_type or ""
    if manifest.algorithm_type not in tags:
        known = {**tags, own: [*tags.get(own, ()), *answer["tags"]]}
        warnings += check_tags(own, resolved.tags, known=known)
    return resolved, warnings


def _raise(answer: dict[str, object]) -> NoReturn:
    raise _ERRORS[str(answer["code"])](
        str(answer["message"]),
        problems=[Problem(*problem) for problem in answer["problems"]],  # type: ignore[attr-defined]  # JSON of _main
        traceback=answer["traceback"],  # type: ignore[arg-type]  # likewise
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(output: Path) -> str:
    return output.read_text("utf-8", "replace")[-_SHOWN_OUTPUT:]


def _main(folder: str, given: str, result: str) -> None:
    manifest = Manifest.model_validate_json(Path(given).read_text())

    def no_asset(path: str) -> Path:
        raise FileNotFoundError(path)

    answer: dict[str, object]
    try:
        module = import_runner(Package(Path(folder), no_asset))
        resolved = resolve_type(manifest, module.runner_class)
        answer = {
            "manifest": resolved.model_dump(mode="json"),
            "tags": list(getattr(module.runner_class, "algorithm_tags", ())),
            "warnings": module.warnings,
        }
    except tuple(_ERRORS.values()) as error:
        problems = [(problem.key, problem.message) for problem in error.problems]
        answer = {"code": error.code, "message": error.message, "problems": problems, "traceback": error.traceback}
    Path(result).write_text(json.dumps(answer))
    # Threads that the author's code has started do not keep the process.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
