"""Tracebacks as an author wants them: from their own code on, with paths in their own folder."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import t3d_server

_OURS = Path(t3d_server.__file__).parent


def format_author_traceback(error: BaseException, folder: Path) -> str:
    """Format an exception of an author's code.

    Frames above the first one in the author's folder are cut off, those of the import machinery everywhere; file
    names are relative to the folder.

    Args:
        error: the exception.
        folder: folder of the code, as in `Package.folder`.
    """
    summary = traceback.TracebackException.from_exception(error)
    for part in _chain(summary):
        frames = [frame for frame in part.stack if not frame.filename.startswith("<frozen importlib")]
        ours = [Path(frame.filename).is_relative_to(folder) for frame in frames]
        first = ours.index(True) if any(ours) else _after_server(frames)
        for frame, is_authors in zip(frames, ours, strict=True):
            if is_authors:
                frame.line  # noqa: B018  # reads the source line, while the file name still leads to it
                frame.filename = Path(frame.filename).relative_to(folder).as_posix()
        part.stack[:] = frames[first:]
        if part.exc_type is not None and issubclass(part.exc_type, SyntaxError) and part.filename:
            part.filename = part.filename.removeprefix(f"{folder}/")
    return "".join(summary.format())


def _after_server(frames: list[traceback.FrameSummary]) -> int:
    """Without a frame of the author's, the server's own leading frames go."""
    for index, frame in enumerate(frames):
        if not Path(frame.filename).is_relative_to(_OURS) and "/importlib/" not in frame.filename:
            return index
    return len(frames)


def _chain(summary: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    waiting = [summary]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other]
