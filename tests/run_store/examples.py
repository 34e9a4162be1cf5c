"""Runs and events to put on record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from t3d_server.clock import SYSTEM_CLOCK
from t3d_server.ids import first_id, new_id
from t3d_server.models import Run, RunStatus
from t3d_server.run_store.events import Accepted, Ended, Header
from t3d_server.run_store.records import StoredRun


def a_run(run_id: str = "", status: RunStatus = RunStatus.PENDING, **fields: Any) -> Run:
    return Run(
        **{
            "id": run_id or new_id(),
            "algorithm": "blur",
            "version": "1.0.0",
            "resolved_device": "cpu",
            "status": status,
            "input_dataset_ids": [],
            "created_at": SYSTEM_CLOCK.now(),
            **fields,
        }
    )


def an_id(time: datetime) -> str:
    """An id that was made at that time."""
    return first_id(time) + new_id()[13:]


def ended(run: Run, status: RunStatus = RunStatus.COMPLETED) -> Run:
    return run.model_copy(update={"status": status, "ended_at": SYSTEM_CLOCK.now()})


def stored(run: Run, **fields: Any) -> StoredRun:
    return StoredRun(run=run, owner="one", **fields)


def header(cluster: str = "one", process: str = "p1", batch: str = "") -> Header:
    return Header(cluster=cluster, process=process, batch=batch or new_id(), time=SYSTEM_CLOCK.now())


def accepted(run: Run, key: str = "") -> Accepted:
    return Accepted(run=run, key=key, request_sha256="request")


def has_ended(run: Run, **fields: Any) -> Ended:
    return Ended(run=ended(run), **fields)
