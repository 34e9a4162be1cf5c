"""`Client`: all that a server does, over HTTP."""

from __future__ import annotations

from t3d_server.client.algorithms import Algorithms
from t3d_server.client.runs import Runs


class Client(Algorithms, Runs):
    """A connection to a t3d server; close it, or use it in a `with` statement. Several threads may share one.

    Errors are those of `t3d_server.errors`, as the server raised them. Where a server goes away that has answered
    before, as one that restarts does, requests are repeated until it is back: all but those that store a dataset, which
    are repeated only where the server has certainly not got the whole of them. That it is waited for is told by
    Python's `logging`, as a warning of `t3d_server.client.patience`.

    Args:
        url: the server; else `T3D_URL`, else the local server.
        token: a token of that server; else `T3D_TOKEN`, else the local server's.
        timeout_s: how long the server may stay silent, in seconds.
        away_s: how long it may be away, in seconds.

    Raises:
        ServerUnavailableError: no server is known.
    """
