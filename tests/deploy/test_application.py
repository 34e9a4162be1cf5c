"""What an operator is told whose settings are incomplete, or in the wrong place."""

from __future__ import annotations

import os

import pytest

from t3d_server.errors import InvalidRequestError
from t3d_server.main import application, connect
from t3d_server.settings import load_settings


def test_everything_that_a_node_lacks_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("T3D_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("T3D_S3_ENDPOINT", "127.0.0.1:9000")
    with pytest.raises(InvalidRequestError, match=r"^T3D_S3_ACCESS_KEY, T3D_S3_SECRET_KEY, T3D_TOKENS must be set on"):
        connect()


def test_settings_do_not_belong_into_the_serve_config() -> None:
    """Ray keeps it and shows it, and the coordinator and the replicas do not see it."""
    with pytest.raises(InvalidRequestError, match=r"not have s3_secret_key: settings are T3D_\* variables") as caught:
        application({"s3_secret_key": "hidden"})
    assert "hidden" not in str(caught.value)


def test_an_empty_token_is_none() -> None:
    with pytest.raises(InvalidRequestError, match="T3D_TOKENS"):
        load_settings(tokens={"": "admin"})
