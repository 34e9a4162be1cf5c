"""Waits for saves in algorithm folders; `t3d debug --watch` runs again at each of them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from watchfiles import watch

from t3d_server.cli.output import console
from t3d_server.errors import InvalidRequestError
from t3d_server.packages.folder import is_part, scan

_TICK_MS = 200
_STOP_S = 3.0


def saves(folders: Sequence[Path], ignored: Path | None = None) -> Iterator[set[Path]]:
    """Wait for saves. From the first item on, no save is missed, even if the caller is slow.

    Args:
        folders: algorithm folders.
        ignored: a folder for results; one inside of an algorithm folder is not watched.

    Yields:
        The files that were saved, moved or removed and belong to an algorithm; an empty set at first, and every
        fifth of a second without any.

    Raises:
        InvalidPackageError: a folder is no algorithm folder.
        KeyboardInterrupt: Ctrl-C.
    """
    roots = [folder.resolve() for folder in folders]
    # Editors write files that exist only for a moment: only files that exist, or existed, were saved or removed.
    known: set[Path] = set()
    for root in roots:
        for file in scan(root)[0].values():
            known |= {file, *file.parents}
    results = None if ignored is None else ignored.resolve()

    def counts(change: object, name: str) -> bool:
        path = Path(name)
        root = next((root for root in roots if path != root and path.is_relative_to(root)), None)
        if root is None or (results and results.is_relative_to(root) and path.is_relative_to(results)):
            return False
        return is_part(root, path)

    for changes in watch(*roots, watch_filter=counts, rust_timeout=_TICK_MS, yield_on_timeout=True):
        saved = {path for path in (Path(name) for _, name in changes) if path in known or path.exists()}
        known |= saved
        yield saved


def print_saved(paths: set[Path]) -> None:
    """Print which files were saved, if any."""
    if paths:
        names = ", ".join(sorted(path.name for path in paths))
        console.print(f"\n{datetime.now():%H:%M:%S} {names} saved", style="bold", markup=False)


def print_waiting(what: str) -> None:
    """Print that the command waits for the next save."""
    console.print(f"waiting for a save in {what} (Ctrl-C ends)", style="dim", markup=False)


def run_at_each_save(folder: Path, output: Path) -> None:
    """Run this very command without `--watch` in a fresh process, and again at each save; ends by KeyboardInterrupt.

    Args:
        folder: the algorithm folder.
        output: where the command writes.

    Raises:
        InvalidRequestError: that is the algorithm folder itself.
    """
    if output.resolve() == folder.resolve():
        raise InvalidRequestError(f"{output}: results would be part of the algorithm there; name another folder by -o")
    command = [sys.executable, *(item for item in sys.orig_argv[1:] if item != "--watch")]
    process: subprocess.Popen[bytes] | None = None
    waiting = False
    with _terminal_kept():
        try:
            for saved in saves([folder], output):
                if saved or process is None:
                    if process is not None:
                        _stop(process)
                    print_saved(saved)
                    process = subprocess.Popen(command)
                    waiting = False
                elif not waiting and process.poll() is not None:
                    print_waiting(str(folder))
                    waiting = True
        finally:
            if process is not None:
                # A terminal has sent Ctrl-C to it, too; a second one would disturb its clean-up.
                _wait(process)
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process as Ctrl-C does, so that it can clean up; if it does not end, it is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        _wait(process)
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Restore the terminal at the end: a debugger that is killed leaves it without echo."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # Windows has none

    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
