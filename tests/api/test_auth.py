"""Tokens and roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from t3d_server.api.auth import Gate, Role
from t3d_server.errors import UnauthorizedError

if TYPE_CHECKING:
    from tests.api.conftest import Server

SHA = "0" * 64
ADMIN_ROUTES = [
    ("HEAD", f"/v1/blobs/{SHA}"),
    ("PUT", f"/v1/blobs/{SHA}"),
    ("POST", "/v1/algorithms"),
    ("PUT", "/v1/algorithms/probe/current"),
    ("DELETE", "/v1/algorithms/probe/1.0.0"),
]
ROUTES = [
    ("GET", "/v1"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/datasets"),
    ("GET", "/v1/datasets/x"),
    ("HEAD", "/v1/datasets/x"),
    ("GET", "/v1/datasets/x/info"),
    ("DELETE", "/v1/datasets/x"),
    ("GET", "/v1/algorithms"),
    ("GET", "/v1/algorithms/probe"),
    ("GET", "/v1/algorithms/probe/1.0.0"),
    ("GET", "/v1/algorithms/probe/args-schema"),
    ("POST", "/v1/algorithms/probe/runs"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/x"),
    ("GET", "/v1/runs/x/log"),
    ("POST", "/v1/runs/x/cancel"),
]


@pytest.mark.parametrize("token", [None, "wrong", "", "an-admi", "an-admin2", "ü"])
@pytest.mark.parametrize(("method", "path"), [*ROUTES, *ADMIN_ROUTES])
def test_no_route_works_without_a_valid_token(server: Server, method: str, path: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode("latin-1")}
    response = server.request(method, path, token=None, headers=headers, data=b"{}")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_publishing_needs_an_admin(server: Server, method: str, path: str) -> None:
    assert server.request(method, path, token="a-user", data=b"{}").status_code == 403


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_all_else_is_for_users(server: Server, method: str, path: str) -> None:
    assert server.request(method, path, token="a-user", data=b"{}").status_code not in (401, 403, 405, 500)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_token(server: Server, path: str) -> None:
    assert server.request("GET", path, token=None).status_code == 200


def test_no_tokens_lets_nobody_in_and_none_everybody() -> None:
    assert Gate(None).caller_of(None).role is Role.ADMIN
    with pytest.raises(UnauthorizedError):
        Gate({}).caller_of("Bearer ")
