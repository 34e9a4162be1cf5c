"""Ends what a server that was killed leaves behind: HAProxy, whose port would stay taken, and Ray's slower processes.

A script for a process of its own: its standard input closes with the server, however that ends. It imports nothing of
the package, to be small.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

LASTS_S = 10.0
"""How long to look for processes: those that are still there may start others."""
POLL_S = 0.2


def main(instance: str) -> None:
    """Wait for the end of the server; then end the processes that were started with its folder, and remove that."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + LASTS_S
    while time.monotonic() < deadline:
        for pid in processes(instance):
            kill(pid)
        time.sleep(POLL_S)
    shutil.rmtree(instance, ignore_errors=True)


def kill(pid: int) -> None:
    """Kill a process, and wait for its end: its threads may write files for a while after its memory is gone."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], LASTS_S)
        finally:
            os.close(process)


def processes(instance: str) -> list[int]:
    """Processes whose command line or environment names the folder; every process of this Ray cluster's does."""
    found = set()
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]:
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if os.fsencode(instance) in path.read_bytes():
                found.add(int(path.parent.name))
    return sorted(found - {os.getpid()})


if __name__ == "__main__":
    main(sys.argv[1])
