"""Ends HAProxy once the server's process is gone: Ray does not where that was killed, and its port would stay taken.

A script for a process of its own: its standard input closes with the server, however that ends. It imports nothing of
the package, to be small.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

GRACE_S = 10.0
"""Ray's own processes, which would start HAProxy again, end by themselves."""
POLL_S = 0.2


def main(instance: str) -> None:
    """Wait for the end of the server; then end the processes whose command line names its folder, and remove that."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        for pid in _processes(instance):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    shutil.rmtree(instance, ignore_errors=True)


def _processes(instance: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if os.fsencode(instance) in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
