"""Authorization: bearer tokens, each with a role."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from t3d_server.errors import ForbiddenError, UnauthorizedError


class Role(StrEnum):
    """What a token allows.

    Attributes:
        USE: datasets and runs.
        ADMIN: all of that, and publishing and removing algorithms, which means running one's own code.
    """

    USE = "use"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Attributes:
        role: what the sender may do.
        token: the first 8 digits of the token's SHA-256; None where authentication is off.
    """

    role: Role
    token: str | None


class Gate:
    """Finds the sender of a request.

    Args:
        tokens: role of each token; None turns authentication off.
    """

    def __init__(self, tokens: Mapping[str, Role] | None) -> None:
        self._callers = None if tokens is None else [_caller(token.encode(), role) for token, role in tokens.items()]

    def caller_of(self, authorization: str | None) -> Caller:
        """The sender of an Authorization header.

        Raises:
            UnauthorizedError: it holds no valid token.
        """
        if self._callers is None:
            return Caller(Role.ADMIN, None)
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthorizedError("A token is needed: send the header `Authorization: Bearer TOKEN`.")
        # Every token is compared, and in constant time: the duration gives no hint to any of them.
        sent = given.strip().encode("latin-1")
        callers = [caller for token, caller in self._callers if hmac.compare_digest(token, sent)]
        if not callers:
            raise UnauthorizedError("The token is not valid here.")
        return callers[0]


def _caller(token: bytes, role: Role) -> tuple[bytes, Caller]:
    return token, Caller(Role(role), hashlib.sha256(token).hexdigest()[:8])


# Only for the API's description, from which client generators learn of the token; `Gate` checks it.
_described = Depends(HTTPBearer(auto_error=False, description="A token of the server."))


async def may_use(request: Request, _: object = _described) -> None:
    """Dependency of routes that need a token; leaves the `caller` in the state of the request."""
    request.state.caller = request.app.state.gate.caller_of(request.headers.get("authorization"))


async def may_administer(request: Request, _: object = _described) -> None:
    """Dependency of routes that need an admin token."""
    await may_use(request)
    if request.state.caller.role is not Role.ADMIN:
        raise ForbiddenError("This needs an admin token; yours may use datasets and runs only.")
