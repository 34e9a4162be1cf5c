"""The v0 API on a port of its own, for clients that send no token.

Ray Serve has one HTTP port, where everything needs a token. This port is opened by the router, beside Serve's, as its
operations are there already. It has its own thread and event loop: its requests do not delay those of the other port.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from t3d_server.api.auth import Gate
from t3d_server.api.service import Service
from t3d_server.api.v0.app import create_v0, without_doubled_slash
from t3d_server.api.v0.errors import failure

logger = logging.getLogger(__name__)

RETRY_S = 1.0


def listen(service: Service, host: str, port: int) -> None:
    """Serve the v0 API without a token, from now on until this process ends.

    Args:
        service: the operations; its calls have to work from any event loop.
        host: address to listen on.
        port: port to listen on; as long as another process has it, such as the router before this one, it is tried
            again.
    """
    app = _NotForBrowsers(create_v0(service, Gate(None)))
    threading.Thread(target=lambda: asyncio.run(_serve(app, host, port)), name="v0-listener", daemon=True).start()


async def _serve(app: ASGIApp, host: str, port: int) -> None:
    with await _bound(host, port) as listener:
        logger.warning("the v0 API listens on %s:%d, where it asks for no token", host, port)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        await uvicorn.Server(config).serve(sockets=[listener])


async def _bound(host: str, port: int) -> socket.socket:
    logged = False
    while True:
        try:
            return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if not logged:
                logger.warning("the v0 API cannot listen on %s:%d yet: %s", host, port, error)
            logged = True
        await asyncio.sleep(RETRY_S)


class _NotForBrowsers:
    """Rejects requests of web pages: a browser on this machine could reach the port for pages of other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            return await failure(403, "forbidden", "This port is not for web pages.")(scope, receive, send)
        return await self._app(without_doubled_slash(scope), receive, send)
