"""What `import t3d_server` offers."""

from __future__ import annotations

import t3d_server
from t3d_server import errors


def test_all_names_are_there_and_shown() -> None:
    for name in t3d_server.__all__:
        assert getattr(t3d_server, name) is not None
        assert name in dir(t3d_server)


def test_errors_are_those_of_the_package() -> None:
    offered = {name for name in t3d_server.__all__ if name.endswith("Error")}
    assert offered == {name for name in vars(t3d_server) if name.endswith("Error")}
    assert all(getattr(errors, name) is getattr(t3d_server, name) for name in offered)
