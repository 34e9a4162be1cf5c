"""Ids of datasets and runs: UUID version 7 (RFC 9562), which sort by the time they carry."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import uuid_utils

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_id() -> str:
    """Returns a fresh id, greater than every id this process made before."""
    return str(uuid_utils.uuid7())


def is_id(text: str) -> bool:
    """Whether `text` is an id in its one canonical spelling (lower case, dashes)."""
    return _UUID7.fullmatch(text) is not None


def milliseconds_of(identifier: str) -> int:
    """Unix time in milliseconds at which the id was made."""
    return int(identifier[:8] + identifier[9:13], 16)


def time_of(identifier: str) -> datetime:
    """UTC time at which the id was made, to the millisecond."""
    return datetime.fromtimestamp(milliseconds_of(identifier) / 1000, UTC)
