"""`Client`: all operations of a server, over HTTP."""

from __future__ import annotations

from t3d_server.client.algorithms import Algorithms
from t3d_server.client.runs import Runs


class Client(Algorithms, Runs):
    """A connection to a t3d server; close it, or use it in a `with` statement. Several threads may share one.

    Errors are those of `t3d_server.errors`, as the server raised them. If a server that has answered before stops
    answering, as during a restart, requests are repeated until it is back. A request that stores a dataset is repeated
    only if the server has certainly not received all of it. While the client waits for the server, it logs a warning
    by Python's `logging`, as `t3d_server.client.retries`.

    Args:
        url: the server; else `T3D_URL`, else the local server.
        token: a token of that server; else `T3D_TOKEN`, else the local server's.
        timeout_s: longest time without an answer of the server, in seconds.
        away_s: how long to wait for a server that restarts, in seconds.

    Raises:
        ServerUnavailableError: no server is known.
    """
