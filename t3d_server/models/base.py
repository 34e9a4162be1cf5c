"""What all wire models are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Device = Literal["cpu", "gpu"]


def utc_now() -> datetime:
    """The time now, UTC, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Model(BaseModel):
    """Base of the wire models: unknown fields are kept out, fields are not changed by accident."""

    model_config = ConfigDict(extra="ignore", frozen=True)
