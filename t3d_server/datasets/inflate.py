"""Tells whether a deflate stream is a bomb, before a library unpacks it without a limit."""

from __future__ import annotations

import zlib
from typing import BinaryIO

# Deflate unpacks a byte to 1032 at most, so that what stays below this needs no look.
_MAX_RATIO = 1032
_HARMLESS_BYTES = 64 * 1024**2
_BLOCK_BYTES = 1024**2


def is_bounded(file: BinaryIO, size: int, limit: int) -> bool:
    """Whether a stream unpacks to at most `limit` bytes, or to so little that it does not matter.

    Args:
        file: a file that stands at the stream's beginning.
        size: length of the stream in bytes.
        limit: what it says it unpacks to, in bytes.

    Returns:
        True as well where the stream is damaged: whoever unpacks it will say so, in bounded memory.
    """
    if size * _MAX_RATIO <= _HARMLESS_BYTES:
        return True
    stream = zlib.decompressobj()
    unpacked, left = 0, size
    try:
        while left > 0 and not stream.eof and (block := file.read(min(left, _BLOCK_BYTES))):
            left -= len(block)
            while block and not stream.eof:
                unpacked += len(stream.decompress(block, _BLOCK_BYTES))
                if unpacked > limit:
                    return False
                block = stream.unconsumed_tail
    except zlib.error:
        return True
    return True
