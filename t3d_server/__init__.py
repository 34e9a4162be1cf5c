"""t3d_server: serves image-processing algorithms on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t3d_server.errors import (
    AlgorithmError,
    ConflictError,
    ForbiddenError,
    InvalidArgsError,
    InvalidDatasetError,
    InvalidInputError,
    InvalidPackageError,
    NotFoundError,
    ServerUnavailableError,
    StoreUnavailableError,
    T3dError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from t3d_server.client import Client as Client

__version__ = "0.1.0"
__all__ = [
    "AlgorithmError",
    "Client",
    "ConflictError",
    "ForbiddenError",
    "InvalidArgsError",
    "InvalidDatasetError",
    "InvalidInputError",
    "InvalidPackageError",
    "NotFoundError",
    "ServerUnavailableError",
    "StoreUnavailableError",
    "T3dError",
    "UnauthorizedError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # The client is imported on demand: authors import only `t3d_server.algorithm_utils`.
    if name == "Client":
        from t3d_server.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
