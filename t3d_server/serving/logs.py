"""The server's own log: JSON lines, each with the run, algorithm, version and replica that it is about.

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
    """Send the log records of this package to Serve's logger, in this process."""
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
    """A record as Serve writes it: its message, where it comes from, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = {
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
            fields["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class _ToServe(logging.Handler):
    """Hands records to Serve's logger, whatever handlers that has by then."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("ray.serve").handle(record)
