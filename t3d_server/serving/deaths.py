"""Why replicas have ended, in a sentence, and whether a run may be the cause.

Ray reports it only as text, among tables and tracebacks.
"""

from __future__ import annotations

import re

from ray.exceptions import ActorDiedError

NODE_HAS_DIED = "The actor died because its node has died."
NODE_WAS_STOPPED = ("the actor's node was terminated expectedly", "the actor's node was preempted")
"""Of a node that ended otherwise, Ray does not know the reason: a run may have used up its memory."""

_PLAIN = (
    (r"running low on memory", "its process was ended by Ray, because the memory of the machine ran out"),
    (r"receives a SIGTERM", "its process was ended by SIGTERM"),
    (r"with an exit code (\d+)", r"its process ended by itself, with exit code \1"),
    (
        r"with a connection error code|ActorDiedError\(\)",  # the latter: all that Serve reports of one that loaded
        "its process was killed (perhaps out of memory), crashed in compiled code, or ended itself by os._exit",
    ),
)


def cause(text: str) -> str:
    """Why a process has ended, in a sentence, from an error or a status of Ray; a line of the text if none fits."""
    sentences = (match.expand(plain) for words, plain in _PLAIN if (match := re.search(words, text)))
    return next(sentences, None) or _line(text)


def _line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    for index, line in enumerate(lines[:-1]):
        if ActorDiedError.BASE_ERROR_MSG in line:
            return lines[index + 1]
    return lines[-1] if lines else text.strip()


def was_by_node(text: str) -> bool:
    """Whether a process has ended, or was never started, because its node has died."""
    return NODE_HAS_DIED in text


def was_wanted(text: str) -> bool:
    """Whether the node was stopped on purpose, and not by a run."""
    return any(words in text for words in NODE_WAS_STOPPED)
