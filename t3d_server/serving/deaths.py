"""What Ray tells of replicas that have ended: in a sentence, and whether their work may have ended them.

Ray tells it in words alone, with tables and tracebacks around them.
"""

from __future__ import annotations

import re

from ray.exceptions import ActorDiedError

NODE_HAS_DIED = "The actor died because its node has died."
NODE_WAS_TOLD = ("the actor's node was terminated expectedly", "the actor's node was preempted")
"""Of a node that was killed otherwise, Ray cannot tell by what: it may have been the memory that a run took."""

_PLAIN = (
    (r"running low on memory", "its process was ended by Ray, because the memory of the machine ran out"),
    (r"receives a SIGTERM", "its process was told to end, by SIGTERM"),
    (r"with an exit code (\d+)", r"its process ended by itself, with exit code \1"),
    (
        r"with a connection error code|ActorDiedError\(\)",  # the latter is all that Serve tells of one that loaded
        "its process was killed (perhaps out of memory), crashed in compiled code, or ended itself by os._exit",
    ),
)


def cause(told: str) -> str:
    """Why, in a sentence, by an error or a status of Ray's; where Ray says too little for one, Ray's own line."""
    said = (match.expand(plain) for words, plain in _PLAIN if (match := re.search(words, told)))
    return next(said, None) or _line(told)


def _line(told: str) -> str:
    lines = [line for line in told.splitlines() if line.strip() and not line[0].isspace()]
    for index, line in enumerate(lines[:-1]):
        if ActorDiedError.BASE_ERROR_MSG in line:
            return lines[index + 1]
    return lines[-1] if lines else told.strip()


def was_by_node(told: str) -> bool:
    """Whether a process has ended, or was never started, because its node has died."""
    return NODE_HAS_DIED in told


def was_wanted(told: str) -> bool:
    """Whether somebody has ended the node: no run has."""
    return any(words in told for words in NODE_WAS_TOLD)
