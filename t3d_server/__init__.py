"""t3d_server: serves image-processing algorithms on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t3d_server.client import Client as Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> Any:
    # The client is imported on demand: authors import only `t3d_server.algorithm_utils`.
    if name == "Client":
        from t3d_server.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
