"""Errors as HTTP answers, and back as errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from t3d_server.api.problems import STATUS, answer
from t3d_server.client.answers import ERRORS
from t3d_server.errors import InvalidInputError, InvalidRequestError, Problem, T3dError

if TYPE_CHECKING:
    from tests.api.conftest import Server


def tree(base: type[T3dError] = T3dError) -> Iterator[type[T3dError]]:
    yield base
    for child in base.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", [kind for kind in tree() if kind.__module__ == "t3d_server.errors"])
def test_every_error_has_a_status_and_comes_back_as_its_class(kind: type[T3dError]) -> None:
    assert answer(kind("x")).status_code == STATUS[kind]
    # The abstract of the two that share a code comes back as the concrete one.
    assert ERRORS[kind.code] is (InvalidRequestError if kind is InvalidInputError else kind)


def test_an_error_is_told_even_where_its_text_is_not_unicode() -> None:
    problem = answer(T3dError("a\udc80b", problems=[Problem("\udc80", "x")], traceback="\udc80"))
    assert json.loads(bytes(problem.body))["detail"] == r"a\udc80b"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/datasets/", 404, "not_found"),
        ("GET", "/v1/no/such/route", 404, "not_found"),
        ("PATCH", "/v1/datasets", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_unknown_routes_and_methods_are_problems_too(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    response = server.request(method, path)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == code


def test_an_unexpected_exception_is_a_problem_without_internals(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.store, "stat", lambda key: 1 / 0)
    response = server.request("GET", "/readyz")
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "division" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "keys"),
    [
        ("GET", "/v1/runs?limit=0&stauts=FAILED&status=GONE&cursor=x", ["stauts", "limit", "cursor", "status"]),
        ("POST", "/v1/datasets?axis=ZYX&spacing=1,two", ["axis", "spacing"]),
        ("POST", "/v1/algorithms?wait=5&wait_s=-1", ["wait", "wait_s", "name", "files"]),
        ("POST", "/v1/algorithms/probe/runs?wait=5&wait_s=x", ["wait", "wait_s", "name", "input_dataset_ids"]),
        ("PUT", "/v1/algorithms/probe/current?x=1", ["x", "version", "name"]),
    ],
)
def test_all_that_is_wrong_with_query_and_body_is_told_at_once(
    server: Server, method: str, path: str, keys: list[str]
) -> None:
    response = server.request(method, path, json={"name": 5})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert {item["key"] for item in response.json()["errors"]} == set(keys)


@pytest.mark.parametrize(
    ("method", "path", "key", "meant"),
    [
        ("GET", "/v1/runs?stauts=FAILED", "stauts", "status"),
        ("POST", "/v1/datasets?Spacing=1,1", "Spacing", "spacing"),
        ("DELETE", "/v1/algorithms/probe/9.9.9?run=cancel", "run", "runs"),
        ("GET", "/v1/algorithms?algorithm_type=x", "algorithm_type", None),
        ("GET", "/v1?x", "x", None),
        ("GET", "/v1/runs?status=FAILED&status=COMPLETED", "status", None),
    ],
)
def test_a_query_that_a_route_does_not_know_or_takes_once_is_refused(
    server: Server, method: str, path: str, key: str, meant: str | None
) -> None:
    """Rather than ignored; but not by the v0 API, whose clients rely on that."""
    response = server.request(method, path)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    [problem] = response.json()["errors"]
    assert problem["key"] == key
    assert meant is None or f"did you mean {meant!r}?" in problem["message"]
    assert server.request("GET", f"/api/v0/algorithm/all?{path.partition('?')[2]}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/datasets", "image/png"),
        ("PUT", f"/v1/blobs/{64 * '0'}", "application/octet-stream"),
        ("POST", "/v1/algorithms", "application/json"),
        ("POST", "/v1/algorithms/probe/runs", "application/json"),
        ("POST", "/api/v0/files", "application/octet-stream"),
        ("POST", "/api/v0/execute-algorithm", "application/json"),
    ],
)
def test_a_packed_body_is_refused(server: Server, method: str, path: str, kind: str) -> None:
    for encoding, packed in (("gzip", True), ("identity", False)):
        headers = {"Content-Type": kind, "Content-Encoding": encoding}
        response = server.request(method, path, data=b"{}", headers=headers)
        told = (response.status_code, response.json()["code"])
        assert (told == (415, "unsupported_media_type")) is packed
        assert ("Content-Encoding is 'gzip'" in response.text) is packed


def test_every_parameter_of_a_query_is_described(server: Server) -> None:
    paths = server.request("GET", "/v1/openapi.json").json()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    given = [each for operation in operations for each in operation.get("parameters", []) if each["in"] != "path"]
    assert [each["name"] for each in given if not each.get("description")] == []


def test_the_description_lists_every_route(server: Server) -> None:
    paths = server.request("GET", "/v1/openapi.json").json()["paths"]
    assert {"get", "head", "delete"} == set(paths["/v1/datasets/{dataset_id}"])
    assert len(paths) == 18


def test_the_description_tells_of_errors_and_bodies_by_models_with_names(server: Server) -> None:
    description = server.request("GET", "/v1/openapi.json").json()
    submit = description["paths"]["/v1/algorithms/{name}/runs"]["post"]
    told = {status: list(answer["content"]) for status, answer in submit["responses"].items()}
    assert told == {
        "201": ["application/json"],
        "4XX": ["application/problem+json"],
        "5XX": ["application/problem+json"],
    }
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(description)))
    assert {"ProblemDetails", "RunRequest", "PublishRequest", "Choice"} <= used
    assert used == description["components"]["schemas"].keys()


def test_the_description_tells_which_routes_need_a_token(server: Server) -> None:
    description = server.request("GET", "/v1/openapi.json").json()
    [(name, scheme)] = description["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in description["paths"].items():
        expected: object = [{name: []}] if path.startswith("/v1") else None
        assert all(operation.get("security") == expected for operation in operations.values())
