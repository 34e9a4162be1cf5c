"""Segments as they are stored."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from t3d_server.models import LogLine
from t3d_server.run_store.events import Accepted, Joined, decode, encode, header_of
from tests.run_store.examples import a_run, header


def test_a_segment_is_read_as_it_was_written() -> None:
    """Whatever text is in it: a line of the segment is one event."""
    by = header()
    lines = [LogLine(time=by.time, level="INFO", message="two\nlines\r\x0b\x0c\x1c\u2028\x85, one \N{SNOWMAN}")]
    events = [Joined(), Accepted(run=a_run(args={"text": "a\nb"}), key="k", lines=lines)]
    segment = encode(by, [event.model_dump_json() for event in events])
    assert decode(segment) == (by, events)
    assert header_of(segment) == by
    assert len(segment.decode().removesuffix("\n").split("\n")) == 3


def test_a_heartbeat_is_a_segment_without_events() -> None:
    by = header()
    assert decode(encode(by, [])) == (by, [])


def test_an_event_of_an_unknown_kind_is_an_error() -> None:
    """Rather than state that lacks it."""
    with pytest.raises(ValidationError):
        decode(encode(header(), [json.dumps({"kind": "from the future"})]))
