"""Whatever fits the OpenAPI descriptions is answered as they say, and what does not is never a fault of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from t3d_server.api.app import create_app
from t3d_server.api.auth import Gate
from t3d_server.api.v0.app import create_v0

if TYPE_CHECKING:
    from tests.api.conftest import Server

EXAMPLES = 5
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
DESCRIPTIONS = {
    "v1": create_app(None, None).openapi(),  # type: ignore[arg-type]  # to describe the routes, no service is needed
    "v0": create_v0(None, Gate(None)).openapi(),  # type: ignore[arg-type]  # likewise
}


def operations(description: dict[str, Any]) -> list[Any]:
    found: Any = schemathesis.openapi.from_dict(description).get_all_operations()
    return [result.ok() for result in found]


@pytest.mark.parametrize(
    "operation",
    [pytest.param(each, id=f"{api}-{each.label}") for api, text in DESCRIPTIONS.items() for each in operations(text)],
)
def test_a_route_keeps_to_its_description(server: Server, operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy()
        | st.deferred(lambda: operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    )
    def asked(case: Any) -> None:
        case.call_and_validate(
            base_url=server.url, checks=CHECKS, headers={"Authorization": "Bearer an-admin"}, timeout=60
        )

    asked()
