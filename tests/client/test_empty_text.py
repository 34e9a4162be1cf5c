"""Empty text as an argument of the client: it is what was given, and no default takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t3d_server import discovery
from t3d_server.client import Client
from t3d_server.client.transport import Transport
from t3d_server.errors import ServerUnavailableError
from t3d_server.ids import new_id


def test_an_empty_url_or_token_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """By those of the environment."""
    monkeypatch.setenv("T3D_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("T3D_TOKEN", "the environment's")
    monkeypatch.setattr(discovery, "read_server", lambda: None)
    tokens: list[str | None] = []
    connect = Transport.__init__

    def connecting(self: Transport, url: str, token: str | None, **options: Any) -> None:
        tokens.append(token)
        connect(self, url, token, **options)

    monkeypatch.setattr(Transport, "__init__", connecting)
    assert Client(token="").url == "http://127.0.0.1:2"
    assert (Client("").url, tokens) == ("", ["", "the environment's"])
    with pytest.raises(ServerUnavailableError, match="not the URL of a server"):
        Client("").algorithms()


def test_downloads_go_to_the_path_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Client("http://127.0.0.1:1", "a token") as client:
        monkeypatch.setattr(client, "_downloaded", lambda dataset_id, target, _: target)
        identifier = new_id()
        for path in (None, "", "."):
            assert client.download(identifier, path) == Path(f"{identifier}.h5")
