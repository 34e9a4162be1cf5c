"""What Ray tells of replicas that have ended: in a sentence, and whether their work may have ended them.

Ray tells it in words alone, with tables and tracebacks around them.
"""

from __future__ import annotations

from ray.exceptions import ActorDiedError

NODE_HAS_DIED = "The actor died because its node has died."
NODE_WAS_TOLD = ("the actor's node was terminated expectedly", "the actor's node was preempted")
"""Of a node that was killed otherwise, Ray cannot tell by what: it may have been the memory that a run took."""


def cause(told: str) -> str:
    """The line that tells why, of an error or a status of Ray's."""
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
