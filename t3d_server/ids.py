"""Ids of datasets and runs: UUID version 7 (RFC 9562), which sort by the time they carry.

Clients of the v0 API accept UUIDs of version 1 alone, so they get the same ids in that form: only the version digit
differs. `canonical` is called where ids come in; everything behind that knows version 7 alone.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from datetime import UTC, datetime

import uuid_utils

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_VERSION_AT = 14
"""Index of the version digit in the text of a UUID."""

ID_LENGTH = 36
_numbers = itertools.count()


def new_id() -> str:
    """Returns a fresh id, greater than every id this process made before."""
    return str(uuid_utils.uuid7())


def tagged_id(tag: str) -> str:
    """Returns a fresh id that tells by its last 48 bits to what it belongs.

    Args:
        tag: as `tag_for` gives it.
    """
    number = next(_numbers)
    return f"{new_id()[:13]}-7{number >> 14 & 0xFFF:03x}-{0x8000 | number & 0x3FFF:04x}-{tag}"


def tag_for(name: str) -> str:
    """The tag of ids that belong to something with this name; others have it once in 2**48 times."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def tag_of(identifier: str) -> str:
    """The tag of an id; a random one if it was made without."""
    return identifier[-12:]


def first_id(time: datetime) -> str:
    """What sorts before every id that was made from this time on."""
    digits = f"{max(0, round(time.timestamp() * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def is_id(text: str) -> bool:
    """Whether `text` is an id in its one canonical spelling (lower case, dashes)."""
    return _UUID7.fullmatch(text) is not None


def canonical(text: str) -> str:
    """The canonical spelling of an id.

    Args:
        text: an id as a client sent it: in any case, in the form of version 7 or of version 1.

    Returns:
        The id in version 7 and lower case; the text unchanged if it is no id in either form.
    """
    lower = text.lower()
    identifier = _with_version("7", lower)
    return identifier if is_id(identifier) and lower[_VERSION_AT] in "17" else text


def version_1(text: str) -> str:
    """A UUID in the form of version 1, which clients of the v0 API check for.

    Args:
        text: a UUID of any version, in lower case.

    Returns:
        The same digits but for that of the version; the text unchanged if it is no UUID.
    """
    return _with_version("1", text) if _UUID.fullmatch(text) else text


def milliseconds_of(identifier: str) -> int:
    """Unix time in milliseconds at which the id was made."""
    return int(identifier[:8] + identifier[9:13], 16)


def time_of(identifier: str) -> datetime:
    """UTC time at which the id was made, to the millisecond."""
    return datetime.fromtimestamp(milliseconds_of(identifier) / 1000, UTC)


def _with_version(digit: str, text: str) -> str:
    return text[:_VERSION_AT] + digit + text[_VERSION_AT + 1 :]
