"""Wire models: what the HTTP API, the handles, the store and the client exchange.

Times are UTC and written as RFC 3339; durations end in `_s` (seconds), sizes in `_bytes`.
"""

from t3d_server.models.algorithms import (
    AlgorithmInfo,
    AlgorithmVersion,
    DataKey,
    InputInfo,
    Kind,
    Manifest,
    OutputInfo,
    Parameter,
    Publication,
    PublishRequest,
)
from t3d_server.models.base import Device, Model, utc_now
from t3d_server.models.datasets import ArrayInfo, DatasetInfo
from t3d_server.models.runs import (
    Attempt,
    LogLevel,
    LogLine,
    Run,
    RunFailure,
    RunNews,
    RunRequest,
    RunStatus,
    TolerantRunRequest,
)
from t3d_server.models.server import Health, ProblemDetails, ProblemItem, ServerInfo

__all__ = [
    "AlgorithmInfo",
    "AlgorithmVersion",
    "ArrayInfo",
    "Attempt",
    "DataKey",
    "DatasetInfo",
    "Device",
    "Health",
    "InputInfo",
    "Kind",
    "LogLevel",
    "LogLine",
    "Manifest",
    "Model",
    "OutputInfo",
    "Parameter",
    "ProblemDetails",
    "ProblemItem",
    "Publication",
    "PublishRequest",
    "Run",
    "RunFailure",
    "RunNews",
    "RunRequest",
    "RunStatus",
    "ServerInfo",
    "TolerantRunRequest",
    "utc_now",
]
