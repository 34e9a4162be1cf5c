"""Which of several media types a client wants, by its Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request
from starlette.exceptions import HTTPException


def agreed(request: Request, offered: Sequence[str]) -> str:
    """The type of `offered` that the client wants, the first one if it does not say.

    Raises:
        HTTPException: 406, it wants none of them.
    """
    accept = ",".join(request.headers.getlist("accept")) or "*/*"
    kind = preferred(accept, offered)
    if kind is None:
        raise HTTPException(406, f"Accept is {accept!r:.80}; what there is: {', '.join(offered)}.")
    return kind


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The type that the header gives the most weight to.

    Args:
        accept: the header, such as "text/html, image/*;q=0.8".
        offered: the types to choose from.

    Returns:
        One of `offered`: among equal weights the one that the header names first, and among those of one range the
        first in `offered`; None if the header accepts none.
    """
    ranges: dict[str, tuple[float, int]] = {}
    for index, part in enumerate(accept.split(",")):
        kind, *parameters = part.strip().lower().split(";")
        ranges.setdefault(kind.strip() or "*/*", (_weight(parameters), -index))

    def rank(kind: str) -> tuple[float, int]:
        # The most specific range that includes a type decides.
        exact = (each for each in (kind, f"{kind.partition('/')[0]}/*", "*/*") if each in ranges)
        return ranges.get(next(exact, ""), (0.0, 0))

    best = max(offered, key=rank)
    return best if rank(best)[0] > 0 else None


def _weight(parameters: Sequence[str]) -> float:
    """The parameter `q`, from 0 to 1; 1 if there is no valid one."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 1.0
    return 1.0
