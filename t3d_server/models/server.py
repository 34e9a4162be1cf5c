"""Wire models of the server itself, and of its errors."""

from __future__ import annotations

from t3d_server.models.base import Device, Model


class ServerInfo(Model):
    """The server and what it can do.

    Attributes:
        name: "t3d_server".
        version: version of the package.
        devices: devices that the cluster has.
        limits: the limits in force, each named with its unit.
    """

    name: str
    version: str
    devices: list[Device]
    limits: dict[str, int | float]


class Health(Model):
    """Answer of `/healthz` and `/readyz`."""

    status: str


class ProblemItem(Model):
    """One fault of a request: where it is and what it is."""

    key: str
    message: str


class ProblemDetails(Model):
    """An error, by RFC 9457 (`application/problem+json`).

    Attributes:
        type: "about:blank": `code` tells errors apart.
        title: the error in a few words.
        status: the HTTP status.
        detail: what was wrong, where, and what to do.
        code: stable name of the error.
        errors: each single fault, where several were found at once.
        traceback: the traceback of the author's code that caused it.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemItem] = []
    traceback: str | None = None
