"""The audit log: a line of the server's log for each request that may change something."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t3d_server.api.fastapi_internals import route_name

logger = logging.getLogger(__name__)

_READING = ("GET", "HEAD", "OPTIONS")


class Audited:
    """ASGI middleware that logs the action, its subject, the token, and the status of the answer.

    `action` is the name of the route; `subject` is the path of what was made or changed; `role` and `token` are those
    of `Caller`, and None without a valid token; `status` is None if there was no answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it."""
        if scope["type"] != "http" or scope["method"] in _READING:
            return await self._app(scope, receive, send)
        status: int | None = None
        subject = scope["path"]

        async def send_noted(message: Message) -> None:
            nonlocal status, subject
            if message["type"] == "http.response.start":
                status = message["status"]
                subject = dict(message["headers"]).get(b"location", subject.encode()).decode()
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            if action := route_name(scope):  # else it cannot have changed anything
                caller = scope.get("state", {}).get("caller")
                fields = {
                    "action": action,
                    "subject": subject,
                    "role": caller and caller.role,
                    "token": caller and caller.token,
                    "status": status,
                }
                logger.info("%s %s", action, subject, extra=fields)
