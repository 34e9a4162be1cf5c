"""Who may do what: bearer tokens, each with a role."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import StrEnum

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from t3d_server.errors import ForbiddenError, UnauthorizedError


class Role(StrEnum):
    """What a token allows.

    Attributes:
        USE: datasets and runs.
        ADMIN: all of that, and changing which algorithms there are, which is running code of one's own.
    """

    USE = "use"
    ADMIN = "admin"


class Gate:
    """Tells the role of a request.

    Args:
        tokens: role of each token; None lets everybody do everything.
    """

    def __init__(self, tokens: Mapping[str, Role] | None) -> None:
        self._tokens = None if tokens is None else [(token.encode(), Role(role)) for token, role in tokens.items()]

    def role_of(self, authorization: str | None) -> Role:
        """Role that an Authorization header gives.

        Raises:
            UnauthorizedError: it holds no valid token.
        """
        if self._tokens is None:
            return Role.ADMIN
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthorizedError("A token is needed: send the header `Authorization: Bearer TOKEN`.")
        # Every token is compared, and in constant time: how long this takes tells nothing of any of them.
        roles = [role for token, role in self._tokens if hmac.compare_digest(token, given.strip().encode("latin-1"))]
        if not roles:
            raise UnauthorizedError("The token is not valid here.")
        return roles[0]


# For the API's description only, so that programs that generate clients know of the token; `Gate` does the checking.
_described = Depends(HTTPBearer(auto_error=False, description="A token of the server."))


async def may_use(request: Request, _: object = _described) -> None:
    """Dependency of routes that need a token."""
    request.app.state.gate.role_of(request.headers.get("authorization"))


async def may_administer(request: Request, _: object = _described) -> None:
    """Dependency of routes that need an admin token."""
    if request.app.state.gate.role_of(request.headers.get("authorization")) is not Role.ADMIN:
        raise ForbiddenError("This needs an admin token; yours may use datasets and runs only.")
