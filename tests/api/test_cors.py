"""Pages of other origins in browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Server

ORIGIN = "https://viewer.example.org"


def preflight(server: Server, origin: str, path: str = "/v1/runs", headers: str = "authorization") -> tuple[int, bool]:
    """Status of what a browser asks before it sends a request, and whether it then does."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    answer = server.request("OPTIONS", path, token=None, headers=asked)
    return answer.status_code, answer.headers.get("Access-Control-Allow-Origin") == origin


def test_a_page_of_a_known_origin_may_ask_and_read(server: Server) -> None:
    """The question before has no token, the request has one; its errors can be read as well."""
    sent = "authorization, content-type, idempotency-key, if-none-match, last-event-id, range"
    assert preflight(server, ORIGIN, headers=sent) == (200, True)
    for token, status in (("a-user", 200), (None, 401)):
        answer = server.request("GET", "/v1/runs", token=token, headers={"Origin": ORIGIN})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert {"ETag", "Location", "Retry-After"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "path"), [("https://example.org", "/v1/runs"), ("null", "/v1/runs"), (ORIGIN, "/api/v0/algorithm/all")]
)
def test_others_may_not_and_v0_is_for_none(server: Server, origin: str, path: str) -> None:
    assert preflight(server, origin, path)[0] >= 400
    answer = server.request("GET", path, headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers
