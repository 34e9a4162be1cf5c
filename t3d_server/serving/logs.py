"""The server's own log: one JSON object a line, with the run, algorithm, version and replica that a line is about.

Ray Serve writes it for the router and the replicas, into files of the session (`logs/serve/`); the coordinator, which
is no part of Serve, writes the same to its standard error.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any

SERVE_CONFIG: dict[str, Any] = {"encoding": "JSON", "additional_log_standard_attrs": ["name"]}
"""The `logging_config` of every deployment."""

_STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


def log_with_serve() -> None:
    """Have what this package logs go where Serve logs, in this process."""
    ours = logging.getLogger("t3d_server")
    if not any(isinstance(handler, _ToServe) for handler in ours.handlers):
        ours.addHandler(_ToServe())
        ours.setLevel(logging.INFO)
        ours.propagate = False


def log_to_stderr() -> None:
    """Have Serve's logger, in a process that is none of its own, write JSON to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.getLogger("ray.serve").handlers = [handler]


class JsonFormatter(logging.Formatter):
    """A record as Serve writes it: what it says, where it comes from, and what `extra` added."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told = {
            "asctime": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "timestamp_ns": int(record.created * 1e9),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
            "name": record.name,
            "component_name": "coordinator",
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            told["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class _ToServe(logging.Handler):
    """Hands records to Serve's logger, whatever handlers that has by then."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("ray.serve").handle(record)
