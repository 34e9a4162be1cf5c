"""Has another process open HDF5 files that nobody vouches for, before this one does.

A few changed bytes make libhdf5 2.0 crash, or loop for ever with its lock held: no exception to catch. A child that
has gone through a file without harm shows that this process can. It answers in about a millisecond, and its place is
taken by a fresh one when a file ends it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t3d_server.datasets import inspection
from t3d_server.errors import InvalidDatasetError, InvalidInputError, PayloadTooLargeError, Problem

_INSPECT_S = 5
_UNPACK_BYTES_PER_S = 25_000_000
_KEPT = 2
_READY = b"ready\n"
_ERRORS = {error.code: error for error in (InvalidDatasetError, PayloadTooLargeError)}

# Checks at a time are few, processes cost 50 MB: some are kept, the others end with their check.
_idle: list[subprocess.Popen[bytes]] = []


def check(path: Path, *, max_bytes: int, axes: str | None = None, spacing: Sequence[float] | None = None) -> None:
    """Inspect a file and unpack its chunks in another process; arguments and errors are those of `inspection.inspect`.

    Raises:
        InvalidDatasetError: also where the process does not survive it.
    """
    question = {"path": str(path.absolute()), "max_bytes": max_bytes, "axes": axes, "spacing": spacing}
    try:
        child = _idle.pop()
    except IndexError:
        child = _start()
    try:
        answer = _ask(child, json.dumps(question).encode() + b"\n")
    except BaseException:
        _end(child)
        raise
    if len(_idle) < _KEPT:
        _idle.append(child)
    else:
        _end(child)
    if answer:
        problems = [Problem(key, message) for key, message in answer["problems"]]
        raise _ERRORS[answer["code"]](answer["message"], problems=problems)


def _start() -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C in a terminal is for the server; the child ends when its input does.
    child = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    if child.stdout is None or child.stdout.readline() != _READY:
        _end(child)
        raise RuntimeError(f"{sys.executable} -m {__name__} does not start; its own output says why")
    return child


def _ask(child: subprocess.Popen[bytes], question: bytes) -> dict[str, Any]:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the checking process has no pipes")
    try:
        child.stdin.write(question)
        child.stdin.flush()
        line = child.stdout.readline()
    except BrokenPipeError:
        line = b""
    if not line.endswith(b"\n"):
        raise InvalidDatasetError("the file is damaged: HDF5 does not get through it; write the file again")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def main() -> None:
    """Answer one line with one line, until there are no more."""
    import resource  # not on Windows, where clients import this module and never run it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(_READY.decode())
    sys.stdout.flush()
    for line in sys.stdin:
        answer = _answer(**json.loads(line))
        _allow(0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(path: str, max_bytes: int, axes: str | None, spacing: list[float] | None) -> dict[str, Any]:
    file = Path(path)
    _allow(_INSPECT_S)
    try:
        contents = inspection.inspect(file, max_bytes=max_bytes, axes=axes, spacing=spacing)
        _allow(_INSPECT_S + contents.unpacked_bytes / _UNPACK_BYTES_PER_S)
        inspection.check_chunks(file)
    except InvalidInputError as error:
        problems = [(problem.key, problem.message) for problem in error.problems]
        return {"code": error.code, "message": error.message, "problems": problems}
    return {}


def _allow(processor_s: float) -> None:
    """Have this process end, even in the midst of C, when it has worked for so long; 0 takes that back."""
    signal.setitimer(signal.ITIMER_PROF, processor_s)  # on a busy machine, any other time would damn sound files


if __name__ == "__main__":
    main()
