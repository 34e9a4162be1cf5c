"""Runs a command for as long as the process that started it lives; a script of its own.

Usage: `python guard.py GRACE_S COMMAND...`, with a pipe as standard input whose other end only the starter
holds. When that end closes, for whatever reason, SIGKILL included, or when SIGTERM comes, the command gets
SIGTERM, and SIGKILL after the grace period in seconds. The exit status is that of the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def _die_with_the_guard() -> None:
    # Linux only, for a guard that is itself killed; elsewhere the command would outlive it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with(command: subprocess.Popen[bytes]) -> None:
    os._exit(command.wait() & 0xFF)


def main(grace_s: float, arguments: list[str]) -> None:
    """Run `arguments` until they end or the starter does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    # `close_fds=False`: the lock that the starter handed over is held for as long as the command runs.
    command = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=_die_with_the_guard,  # safe: there is one thread yet
    )
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()
    try:
        sys.stdin.buffer.read()
    finally:
        command.terminate()
        try:
            command.wait(grace_s)
        except subprocess.TimeoutExpired:
            command.kill()
            command.wait()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
